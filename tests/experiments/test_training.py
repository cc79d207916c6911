"""The training loop: what a step computes, on any devices, and what a run pays and writes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import methods, presets
from experiments.training import (
  batches,
  loop,
  losses,
  metric_files,
  run_directory,
  saved_runs,
  step,
)
from tests.experiments.small import DIGITS, changed, shrunk

pytestmark = pytest.mark.slow  # every test compiles a training loop or two: ten minutes

QUIET = Console(quiet=True)
NO_LIMIT = np.int32(2**31 - 1)


@pytest.fixture(autouse=True)
def standard_promotion(strict_promotion):
  with jax.numpy_dtype_promotion("standard"):  # as users run it
    yield


def first_steps(config, steps):
  """The state after so many steps, its program, and the metrics of each."""
  stream = batches.training_batches(config)
  program = step.make_program(config, batches.evaluation_source(config)[0])
  batch = batches.place(stream.ahead(0, program.batches_per_dispatch), program.batches_sharding)
  state, found = program.steps(
    program.init(program.inputs), batch, step.Stop(np.int32(steps), NO_LIMIT), program.inputs
  )
  return state, program, jax.device_get(found)


def assert_close(one, other, atol):
  for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(x, y, atol=atol)


@pytest.mark.parametrize("name", presets.CONFIGS)
def test_every_config_takes_two_steps(name, tmp_path):
  config = changed(shrunk(presets.CONFIGS[name]), training={"budget": 2, "unit": "steps"})
  result = loop.train(config, tmp_path, QUIET)
  assert result["steps"] == 2
  assert result["gradients"] >= 2
  assert result["test_loss"] > 0
  assert run_directory.read_config(tmp_path) == config


def test_curvature_of_mixed_labels(tmp_path):
  """Two gradients of SAM a step, and one of drawn labels where IRE begins, on BxK labels."""
  config = shrunk(presets.find("ire-imagenet-vit-s", "sam+ire"))
  config = changed(config, training={"budget": 3, "unit": "steps", "log_every": 1})
  assert loop.train(config, tmp_path, QUIET)["gradients"] == 7
  train = metric_files.read_metrics(tmp_path, "train")
  assert all(0 < row["loss"] < 20 for row in train)


def test_accuracy_of_mixed_labels_counts_the_larger_share():
  labels = jnp.array([[0.6, 0.4, 0.0], [0.0, 0.3, 0.7]])
  logits = jnp.log(jnp.array([[0.6, 0.4, 1e-9], [0.0, 0.8, 0.2]]) + 1e-9)
  found, hits = losses.Classification().losses_and_hits(logits, {"label": labels})
  assert hits.tolist() == [True, False]
  expected = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4)), -(0.3 * np.log(0.8) + 0.7 * np.log(0.2))
  np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("method", ["sam", "lookbehind"])
def test_microbatches_are_the_whole_batch(method):
  config = changed(presets.with_method(DIGITS, method), training={"budget": 4, "unit": "steps"})
  whole, _, metrics = first_steps(config, 2)
  parts, _, part_metrics = first_steps(changed(config, training={"microbatches": 2}), 2)
  assert_close(whole.params, parts.params, atol=1e-5)
  assert_close(metrics["each"], part_metrics["each"], atol=1e-3)


def test_devices_share_every_microbatch():
  """A step of two parts adds up gradients, and gathers no examples."""
  config = changed(DIGITS, training={"microbatches": 2})
  program = step.make_program(config, batches.evaluation_source(config)[0])
  stream = batches.training_batches(config)
  batch = batches.place(stream.ahead(0, program.batches_per_dispatch), program.batches_sharding)
  stop = step.Stop(np.int32(1), NO_LIMIT)
  compiled = program.steps.lower(program.shapes, batch, stop, program.inputs).compile().as_text()
  assert "all-reduce" in compiled
  assert "all-gather" not in compiled


def test_seeds_and_tuned_settings_share_one_program():
  """JAX's compilation cache compiles it once, unless the method has a key of its own, as IRE has."""
  texts = set()
  for seed, method in ((0, "sam"), (1, "sam:rho=0.3,learning_rate=0.07,weight_decay=0.001")):
    config = changed(presets.with_method(DIGITS, method), training={"seed": seed})
    program = step.make_program(config, batches.evaluation_source(config)[0])
    stream = batches.training_batches(config)
    batch = batches.place(stream.ahead(0, program.batches_per_dispatch), program.batches_sharding)
    stop = step.Stop(np.int32(1), NO_LIMIT)
    texts.add(program.init.lower(program.inputs).as_text())
    texts.add(program.steps.lower(program.shapes, batch, stop, program.inputs).as_text())
  assert len(texts) == 2


def test_settings_that_share_a_program_are_each_their_own():
  """One after another in a process: the second is the run that it would be alone."""
  sam = lambda settings: changed(
    presets.with_method(DIGITS, f"sam:{settings}"), training={"budget": 4, "unit": "steps"}
  )
  first, program, _ = first_steps(sam("rho=0.05"), 2)
  for settings in ("rho=0.4", "rho=0.05,learning_rate=0.01", "rho=0.05,weight_decay=0.5"):
    shared, other, _ = first_steps(sam(settings), 2)
    assert other.steps is program.steps
    step.functions.cache_clear()
    alone, *_ = first_steps(sam(settings), 2)
    step.functions.cache_clear()
    assert_close(shared.params, alone.params, atol=0)
    with pytest.raises(AssertionError):
      assert_close(shared.params, first.params, atol=1e-7)
    _, program, _ = first_steps(sam("rho=0.05"), 2)


def test_sampled_gradients_are_accumulated():
  config = presets.with_method(DIGITS, "ire")
  config = changed(config, opt={"method": methods.Ire(start=0.0, update_interval=1)})
  state, _, metrics = first_steps(changed(config, training={"microbatches": 2}), 2)
  assert metrics["gradients"] == 4
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))


@pytest.mark.parametrize("fsdp", [2, 8])
def test_sharded_params_follow_the_same_path(fsdp):
  whole, _, _ = first_steps(DIGITS, 2)
  sharded, program, _ = first_steps(changed(DIGITS, training={"fsdp": fsdp}), 2)
  assert_close(whole.params, sharded.params, atol=1e-5)
  found = jax.tree.map(lambda x: x.sharding, sharded)
  assert found == jax.tree.map(lambda x: x.sharding, program.shapes)
  split = [x for x in jax.tree.leaves(sharded.params) if not x.sharding.is_fully_replicated]
  assert len(split) > 4
  assert {x.size // x.addressable_shards[0].data.size for x in split} == {fsdp}


def test_bfloat16_computes_and_float32_stays():
  whole, _, _ = first_steps(DIGITS, 1)
  half, _, _ = first_steps(changed(DIGITS, training={"compute_dtype": "bfloat16"}), 1)
  assert {x.dtype for x in jax.tree.leaves(half.params)} == {jnp.dtype("float32")}
  assert_close(whole.params, half.params, atol=1e-2)
  differences = [
    np.abs(x - y).max()
    for x, y in zip(jax.tree.leaves(whole.params), jax.tree.leaves(half.params), strict=True)
  ]
  assert max(differences) > 1e-6


def test_a_run_pays_its_budget_and_writes_it_down(tmp_path):
  config = changed(DIGITS, training={"budget": 21, "evaluations": 3, "log_every": 4})
  result = loop.train(config, tmp_path, QUIET)
  assert (result["steps"], result["gradients"]) == (11, 22)
  assert result["peak_memory_mb"] > 0
  assert result["steps_per_second"] > 0
  train, test = (metric_files.read_metrics(tmp_path, split) for split in ("train", "test"))
  assert [row["step"] for row in train] == [4, 8]
  assert [row["step"] for row in test] == [4, 7, 11]
  assert test[-1]["loss"] == result["test_loss"]
  assert train[0]["sam/count"] == 4
  run = saved_runs.restore(tmp_path)
  source = batches.evaluation_source(config)
  images, labels = (
    np.stack([source[i][name] for i in range(len(source))]) for name in ("image", "label")
  )
  logits = run.test_losses.model.apply({"params": run.params}, images, train=False)
  scores = run_directory.read_scores(tmp_path)
  np.testing.assert_array_equal(scores, 100 * (np.argmax(logits, axis=-1) == labels))
  assert np.mean(scores) == pytest.approx(result["test_accuracy"])
  written = json.loads((tmp_path / "config.json").read_text())
  assert {"python", "jax", "flatopt"} <= set(written["versions"])
  assert list((tmp_path / "tensorboard").iterdir())
  assert loop.train(config, tmp_path, QUIET) == result  # finished runs are not repeated


def test_training_learns(tmp_path):
  config = changed(
    presets.CONFIGS["digits"], data={"batch_size": 64}, training={"budget": 160, "evaluations": 2}
  )
  assert loop.train(config, tmp_path, QUIET)["test_accuracy"] > 60


def test_learning_rate_follows_the_share_paid():
  opt = presets.CONFIGS["digits"].opt
  rate = lambda share, **fields: float(
    methods.learning_rate(dataclasses.replace(opt, learning_rate=1.0, **fields), jnp.float32(share))
  )
  assert [rate(x) for x in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0], abs=1e-6)
  warm = {"warmup": 0.2, "final": 0.1}
  assert [rate(x, **warm) for x in (0, 0.1, 0.2, 1)] == pytest.approx([0, 0.5, 1, 0.1], abs=1e-6)
  twice = [rate(x, restart=0.6) for x in (0, 0.3, 0.6, 0.8, 1)]
  assert twice == pytest.approx([1, 0.5, 1, 0.5, 0], abs=1e-6)
  tenths = [rate(x, schedule="tenths") for x in (0.2, 0.3, 0.6, 0.9)]
  assert tenths == pytest.approx([1, 0.1, 0.01, 0.001])
  wsd = [rate(x, schedule="wsd", **warm) for x in (0.1, 0.2, 0.8, 0.9, 1)]
  assert wsd == pytest.approx([0.5, 1, 1, 0.55, 0.1])
