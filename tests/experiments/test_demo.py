"""The demo at a budget of seconds: what it pays, measures and says; and how it was tuned."""

import dataclasses
import io
import json
import socket
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments import presets
from experiments.commands.program import main
from experiments.comparisons import equal_budgets
from experiments.comparisons.flatness import measure_all
from experiments.data.arrays import label_shifts
from experiments.measures import flatness, statistics
from experiments.measures.flatness import FlatnessOptions
from experiments.presets.demo import CHOSEN, TUNING
from experiments.reports import directory
from experiments.reports import flatness as flatness_section
from experiments.training import batches, saved_runs
from tests.experiments.small import changed

RECORD = json.loads(TUNING.read_text())
TINY = equal_budgets.Comparison(
  config=changed(
    presets.CONFIGS["demo"],
    data={"batch_size": 16},
    model={"width": 8, "blocks": 1},
    training={"evaluations": 2},
  ),
  methods=("sgd", "sam", "lookbehind", "ire_rho"),
  seeds=2,
  unit="gradients",
  amount=24,
)
PICTURED = "sgd", "sam"
COSTLIEST_STEP = 3  # gradients: Lookbehind of two rounds, or SAM and IRE's estimate


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
  """(directory, what was printed) of a small demo that is cut off from any network."""
  out, printed = tmp_path_factory.mktemp("demo"), io.StringIO()

  def refuse(*_):
    raise AssertionError("the demo opened a connection")

  with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
    patch.setattr(socket.socket, "connect", refuse)
    console = Console(file=printed, width=200)
    equal_budgets.compare(TINY, out, console)
    measure_all(out, FlatnessOptions(resolution=3, pictured=PICTURED), console)
    directory.write(out, console)
  return out, printed.getvalue()


@pytest.mark.slow  # trains and measures eight runs
def test_every_run_pays_the_budget(demo_run):
  runs = json.loads((demo_run[0] / "results.json").read_text())["runs"]
  assert tuple(runs) == TINY.methods
  for method, seeds in runs.items():
    assert [run["seed"] for run in seeds] == [0, 1]
    for run in seeds:
      assert TINY.amount <= run["gradients"] < TINY.amount + COSTLIEST_STEP, method
  steps = {method: seeds[0]["steps"] for method, seeds in runs.items()}
  assert (steps["sgd"], steps["sam"], steps["lookbehind"]) == (24, 12, 8)


@pytest.mark.slow
def test_report_holds_every_method_and_needs_nothing_else(demo_run):
  out, printed = demo_run
  page = (out / "report.html").read_text()
  for method in TINY.methods:
    assert f"<td>{method}</td>" in page
    assert method in printed
  # Ranking, curves, the methods' own metrics, flatness and landscapes, for both grounds.
  assert page.count("data:image/png;base64,") == 10
  assert "://" not in page  # "http" also turns up in base64


@pytest.mark.slow
def test_flatness_of_every_run_is_in_the_report(demo_run):
  out, _ = demo_run
  found = json.loads((out / "flatness.json").read_text())
  for seeds in found["runs"].values():
    assert len(seeds) == 2
    assert all(np.isfinite(run[key]) for run in seeds for key in flatness.MEASURES)
  assert tuple(found["landscapes"]) == PICTURED
  assert np.shape(found["landscapes"]["sam"]) == (3, 3)
  assert "by the trace" in (out / "report.html").read_text()


@pytest.mark.slow
def test_flatness_is_that_of_the_saved_params(demo_run):
  """Loss and worst case over the whole batches of the training set, wrong labels and all."""
  where = demo_run[0] / "runs" / "sam" / "seed-1"
  found = json.loads((where / "flatness.json").read_text())
  run = saved_runs.restore(where)
  source = batches.training_source(run.config)
  examples = source.take(np.arange(len(source) // 16 * 16).reshape(-1, 16))

  def loss_fn(params, batch):
    sums = run.train_losses.evaluate(params, run.model_state, batch, np.ones(16, np.float32))
    return sums["loss"] / 16

  def on_batch(batch):
    loss, grads = jax.value_and_grad(loss_fn)(run.params, batch)
    norm = jax.numpy.sqrt(sum(jax.numpy.sum(g**2) for g in jax.tree.leaves(grads)))
    moved = jax.tree.map(lambda w, g: w + 0.2 * g / norm, run.params, grads)
    return loss, loss_fn(moved, batch) - loss

  loss, increase = jax.tree.map(np.mean, jax.lax.map(on_batch, examples))
  assert found["train_loss"] == pytest.approx(float(loss), rel=1e-4)
  assert found["loss_increase"] == pytest.approx(float(increase), rel=1e-3)


def test_rank_correlation():
  rows = [
    {"test_accuracy": accuracy} | dict.fromkeys(flatness.MEASURES, sharpness)
    for accuracy, sharpness in [(70, 9.0), (80, 5.0), (90, 6.0), (95, 1.0)]
  ]
  assert flatness.rank_correlations(rows)["trace"] == pytest.approx(0.8)
  assert "by the trace +0.80" in flatness_section.agreement(rows)
  assert "Of 4 methods, chance alone exceeds ±0.95" in flatness_section.agreement(rows)
  rows[2]["trace"] = 5.0  # as flat as the second: ranks 4, 2.5, 2.5, 1
  assert flatness.rank_correlations(rows)["trace"] == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
  rows[0]["trace"] = None
  assert flatness.rank_correlations(rows)["trace"] is None


def test_demos_of_before_are_still_drawn(tmp_path, capsys):
  before = Path(__file__).parents[2] / "experiments" / "results" / "2026-11-21-demo"
  for name in ("results.json", "config.json"):
    (tmp_path / name).write_bytes((before / name).read_bytes())
  assert main(["report", str(tmp_path)]) == 0
  page = (tmp_path / "report.html").read_text()
  assert "<td>ire(rho)</td><td>89.2 ± 0.7</td><td>+8.0 ± 0.4</td>" in page


def test_wrong_labels_are_wrong_and_as_many_as_asked():
  shifts = label_shifts(5000, 0.4, classes=10, seed=3)
  assert np.sum(shifts != 0) == 2000
  assert set(shifts) == set(range(10))
  np.testing.assert_array_equal(shifts, label_shifts(5000, 0.4, classes=10, seed=3))


def test_paired_difference():
  mean, error = statistics.paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 6.0])
  assert mean == 2.0
  assert error == pytest.approx(1 / np.sqrt(3))
  # What the seeds share cancels: the unpaired error would be 1.8.
  assert statistics.paired_difference([10.0, 50.0, 90.0], [9.0, 49.0, 89.0]) == (1.0, 0.0)
  assert statistics.paired_difference([2.0], [1.0]) == (1.0, None)
  assert statistics.mean_and_error([1.0, np.nan]) == (None, None)


def test_the_demo_s_settings_are_the_best_of_their_trials():
  assert set(RECORD["trials"]) == set(RECORD["seeds"]) == set(CHOSEN)
  rates = {trial["options"]["learning_rate"] for trial in RECORD["trials"]["sgd"]}
  assert min(rates) < CHOSEN["sgd"]["learning_rate"] < max(rates)
  for method, trials in RECORD["trials"].items():
    assert not set(RECORD["seeds"][method]) & set(range(10))
    best = max(trials, key=lambda trial: np.mean(trial["validation_accuracy"]))
    assert CHOSEN[method] == best["options"]
    opt = presets.find("demo", method).opt
    own = dataclasses.asdict(opt.method) | {"learning_rate": opt.learning_rate}
    assert own.items() >= {n: x for n, x in best["options"].items() if n in own}.items()
    seeds = len(RECORD["seeds"][method])
    assert {len(trial["validation_accuracy"]) for trial in trials} == {seeds}
