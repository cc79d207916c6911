"""Runs that were trained, saved and measured: against their checkpoints, read by hand."""

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from rich.console import Console

from experiments import presets
from experiments.commands.program import main
from experiments.measures import perturbation
from experiments.models.shapes import ResNet
from experiments.reports import directory as report
from experiments.training import batches, loop, metric_files
from flatopt import sharpness
from tests.experiments.small import DIGITS, changed, shrunk
from tests.experiments.test_quantisation import quantised_by_hand
from tests.experiments.test_sharpness_command import dense_eigenvalues, hand_written_loss

pytestmark = pytest.mark.slow  # trains three models

MIXER = changed(
  presets.with_method(DIGITS, "lookahead"),
  data={"wrong_labels": 0.3},
  training={
    "budget": 7,
    "label_smoothing": 0.1,
    "microbatches": 2,
    "evaluations": 1,
    "checkpoint_every": 1,
  },
)
RUNS = {
  "mixer": MIXER,
  "resnet": dataclasses.replace(
    changed(DIGITS, training={"budget": 4, "evaluations": 1}), model=ResNet((1,), width=4)
  ),
  "llama": changed(shrunk(presets.CONFIGS["llama-0.9m"]), training={"budget": 3, "evaluations": 1}),
}
FLAGS = "--examples", "21", "--num-samples", "2", "--probes", "1", "--resolution", "3"


@pytest.fixture(scope="module", params=RUNS)
def saved(request, tmp_path_factory):
  """(config, directory, what the command printed) of a run that was trained and measured."""
  config, directory = RUNS[request.param], tmp_path_factory.mktemp(request.param)
  with jax.numpy_dtype_promotion("standard"), pytest.MonkeyPatch.context() as patch:
    printed = io.StringIO()
    loop.train(config, directory, Console(quiet=True))
    patch.setattr(
      "experiments.commands.program.Console", lambda **_: Console(file=printed, width=200)
    )
    assert main(["sharpness", str(directory), *FLAGS]) == 0
    assert main(["noise", str(directory), "--draws", "3"]) == 0
    assert main(["quantise", str(directory), "--examples", "21"]) == 0
  return config, directory, printed.getvalue()


def raw_checkpoint(directory, place=-1):
  checkpoints = directory / "checkpoints"
  steps = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(checkpoints.absolute() / str(steps[place]) / "state")


def slow_weights(tree):
  """Lookahead's, wherever they are in a checkpoint."""
  if not isinstance(tree, dict | list):
    return None
  if isinstance(tree, dict) and "slow" in tree:
    return tree["slow"]
  inner = tree.values() if isinstance(tree, dict) else tree
  return next((found for found in map(slow_weights, inner) if found is not None), None)


def loss_by_hand(config, directory, source, smoothing):
  """``params -> loss`` on the first 21 examples, and the params to evaluate at."""
  state = raw_checkpoint(directory)
  examples = jax.tree.map(lambda *x: np.stack(x), *(source[i] for i in range(21)))
  model = config.model.build(config.data.set.classes, jnp.float32)
  inputs, labels = examples.get("image"), examples.get("label")
  if labels is None:
    inputs, labels = examples["tokens"][:, :-1], examples["tokens"][:, 1:].ravel()

  def loss_fn(params):
    logits = model.apply({"params": params} | (state["model_state"] or {}), inputs, train=False)
    return hand_written_loss(logits.reshape(-1, logits.shape[-1]), labels, smoothing)

  slow = slow_weights(state["opt_state"])
  return loss_fn, state["params"] if slow is None else slow


def training_loss_by_hand(config, directory):
  source = batches.training_source(config)
  return loss_by_hand(config, directory, source, config.training.label_smoothing)


def test_loss_is_the_restored_model_s(saved):
  config, directory, _ = saved
  found = json.loads((directory / "sharpness.json").read_text())
  loss_fn, params = training_loss_by_hand(config, directory)
  assert found["values"]["loss"] == pytest.approx(float(loss_fn(params)), rel=2e-5)
  assert found["examples"] == 21
  assert found["step"] == max(row["step"] for row in metric_files.read_metrics(directory, "test"))


@pytest.mark.parametrize("saved", ["mixer"], indirect=True)
def test_eigenvalues_are_those_of_the_dense_hessian(saved):
  config, directory, _ = saved
  found = json.loads((directory / "sharpness.json").read_text())["values"]
  eigenvalues = dense_eigenvalues(*training_loss_by_hand(config, directory))
  np.testing.assert_allclose(found["top_eigenvalues"][:2], eigenvalues[:2], rtol=1e-2)


def test_report_is_drawn_again_from_the_files(saved):
  _, directory, printed = saved
  page = (directory / "report.html").read_text()
  assert "<h2>Sharpness</h2>" in page
  assert "top eigenvalues" in page
  assert page.count("data:image/png;base64,") == 10
  assert "<h2>Weight noise</h2>" in page
  for text in ("worst-case increase, rho 0.05", "multiplicative:", "90th percentile"):
    assert text in printed
  pictures = {path.name: path.read_bytes() for path in directory.glob("*.png")}
  assert {
    "spectrum.png",
    "spectrum-dark.png",
    "landscape.png",
    "noise.png",
    "quantisation.png",
  } <= set(pictures)
  for name in (*pictures, "report.html"):
    (directory / name).unlink()
  report.write(directory, Console(quiet=True))
  assert (directory / "report.html").read_text() == page
  assert {name: (directory / name).read_bytes() for name in pictures} == pictures


def test_without_noise_accuracy_is_the_run_s(saved):
  _, directory, _ = saved
  summary = json.loads((directory / "summary.json").read_text())
  found = json.loads((directory / "noise.json").read_text())
  ((one,),) = found["runs"].values()
  for kind in ("additive", "multiplicative"):
    assert found["strengths"][kind][0] == 0
    for bound in ("mean", "low", "high"):
      assert one[kind][bound][0] == pytest.approx(summary["test_accuracy"], abs=1e-3)
    assert len(set(one[kind]["mean"])) > 1


def test_quantised_loss_is_that_of_weights_quantised_by_hand(saved):
  config, directory, _ = saved
  found = json.loads((directory / "quantisation.json").read_text())
  loss_fn, params = loss_by_hand(config, directory, batches.evaluation_source(config), 0.0)
  versions = [params, *(quantised_by_hand(params, bits) for bits in (8, 4))]
  ((one,),) = found["runs"].values()
  np.testing.assert_allclose(one["loss"], [float(loss_fn(w)) for w in versions], rtol=1e-4)


@pytest.mark.parametrize("saved", ["mixer"], indirect=True)
def test_perturbation_is_measured_where_the_run_was(saved):
  config, directory, _ = saved
  first, before, last = perturbation.measure(directory, [0.05], [0.0, 6 / 7])
  earlier, later = (raw_checkpoint(directory, place)["params"] for place in (-2, -1))
  assert [first["step"], before["step"], last["step"]] == [0, 6, 7]
  for row, expected in (
    (before["values"]["rho_over_params"], optax.tree.norm(earlier)),
    (before["values"]["rho_over_step"], optax.tree.norm(optax.tree.sub(later, earlier))),
    (last["values"]["rho_over_params"], optax.tree.norm(later)),
  ):
    np.testing.assert_allclose(row, 0.05 / expected, rtol=1e-5)
  assert "rho_over_step" not in last["values"]
  stream = batches.training_batches(config).ahead(0, perturbation.BATCHES)
  model = config.model.build(config.data.set.classes, jnp.float32)

  def risen(i):
    images, labels = stream["image"][i], stream["label"][i]

    def loss_fn(params):
      logits = model.apply({"params": params}, images, train=True)
      return hand_written_loss(logits, labels, config.training.label_smoothing)

    return sharpness.ascent(loss_fn, later, rho=0.05)

  rises = [float(risen(i)) for i in range(perturbation.BATCHES)]
  assert last["values"]["rise"][1][0] == pytest.approx(np.median(rises), rel=1e-4)
