"""The demo at a budget of seconds: what it writes, what it pays, what it says."""

import dataclasses
import io
import json
import socket

import numpy as np
import pytest
from rich.console import Console

from experiments.comparisons.demo import comparison, data, flatness, training, tuning
from experiments.comparisons.demo.config import COMPARED, Config
from experiments.measures import statistics
from experiments.presets import demo
from experiments.reports import demo as report

TUNING = json.loads(demo.TUNING.read_text())
TINY = Config(
  methods={method: TUNING["chosen"][method] for method in COMPARED},
  seeds=(0, 1),
  gradients=24,
  batch_size=16,
  width=8,
  blocks=1,
  landscape_points=3,
)
COSTLIEST_STEP = 3  # gradients: Lookbehind of two rounds, or SAM and IRE's estimate


@pytest.fixture(
  scope="module",
  params=[
    pytest.param(("sgd", "sam", "lookbehind", "ire_drift"), id="four"),
    pytest.param(COMPARED, id="all", marks=pytest.mark.slow),
  ],
)
def demo_run(request, tmp_path_factory):
  """(directory, what was printed, methods) of a run that is cut off from any network."""
  config = dataclasses.replace(TINY, methods={m: TINY.methods[m] for m in request.param})
  out, printed = tmp_path_factory.mktemp("demo"), io.StringIO()

  def refuse(*_):
    raise AssertionError("the demo opened a connection")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(socket.socket, "connect", refuse)
    console = Console(file=printed, width=200)
    comparison.compare(config, out, seconds=1e6, console=console)
    report.write(out, console)
  return out, printed.getvalue(), request.param


def test_every_run_pays_the_budget(demo_run):
  runs = json.loads((demo_run[0] / "results.json").read_text())["runs"]
  assert tuple(runs) == demo_run[2]
  for method, seeds in runs.items():
    assert [run["seed"] for run in seeds] == list(TINY.seeds)
    for run in seeds:
      assert TINY.gradients <= run["gradients"] < TINY.gradients + COSTLIEST_STEP, method
  assert runs["sgd"][0]["steps"] == TINY.gradients
  assert runs["sam"][0]["steps"] == TINY.gradients // 2
  assert runs["lookbehind"][0]["steps"] == TINY.gradients // 3


def test_report_holds_every_method_and_needs_nothing_else(demo_run):
  out, printed, methods = demo_run
  page = (out / "report.html").read_text()
  for method in methods:
    assert f"<td>{method}</td>" in page
    assert method in printed
  results = json.loads((out / "results.json").read_text())
  assert f"the process took {results['peak_memory_mb']:,.0f} MB at most" in page
  assert "steps\na second" in page
  assert page.count("data:image/png;base64,") == 8
  assert "://" not in page  # "http" also turns up in base64
  assert "notice" not in page.split("</style>")[1]


def test_flatness_is_measured_for_every_run_and_told_in_words(demo_run):
  out, _, _ = demo_run
  results = json.loads((out / "results.json").read_text())
  for seeds in results["runs"].values():
    for run in seeds:
      assert all(np.isfinite(run[key]) for key in flatness.MEASURES)
  assert list(results["landscapes"]) == list(flatness.PICTURED)
  assert np.shape(results["landscapes"]["sam"]) == (3, 3)
  sentence = report.agreement(results)
  assert f"trace {results['rank_correlations']['trace']:+.2f}".replace("-", "\u2212") in sentence
  assert sentence in (out / "report.html").read_text()


def test_rank_correlation():
  rows = [
    {"test_accuracy": accuracy} | dict.fromkeys(flatness.MEASURES, sharpness)
    for accuracy, sharpness in [(70, 9.0), (80, 5.0), (90, 6.0), (95, 1.0)]
  ]
  assert flatness.rank_correlations(rows)["trace"] == pytest.approx(0.8)
  rows[0]["trace"] = None
  assert flatness.rank_correlations(rows)["trace"] is None


def test_resolved_config_is_written(demo_run):
  written = json.loads((demo_run[0] / "config.json").read_text())
  expected = dataclasses.asdict(TINY) | {"methods": {m: TINY.methods[m] for m in demo_run[2]}}
  assert written["config"] == json.loads(json.dumps(expected))
  assert {"python", "jax", "optax", "flax"} <= set(written["versions"])


@pytest.mark.slow
def test_cuts_gradients_where_the_machine_is_slow(tmp_path):
  printed = io.StringIO()
  config = dataclasses.replace(TINY, methods={"sgd": TUNING["chosen"]["sgd"]}, gradients=10**6)
  console = Console(file=printed, width=200)
  comparison.compare(config, tmp_path, seconds=0.05, console=console)
  report.write(tmp_path, console)
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["gradients"] < results["gradients_planned"] == 10**6
  assert len(results["runs"]["sgd"]) == len(TINY.seeds)
  assert "cut from 1000000" in printed.getvalue()
  assert "Cut from 1000000" in (tmp_path / "report.html").read_text()


def test_plan_keeps_seeds_and_methods_and_fits_the_time():
  config = Config(methods=TUNING["chosen"])
  assert comparison.plan(config, ms=1.0, workers=2, seconds=1e6)[0] == config.gradients
  gradients, expected = comparison.plan(config, ms=10.0, workers=2, seconds=200.0)
  assert 0 < gradients < config.gradients
  assert 190 < expected <= 200


def test_a_seed_repeats_and_no_dtype_is_promoted():
  # Here, where the suite's strict promotion holds: the demo's threads do not see it.
  digits = data.split(data.mnist_5k(), TINY.train_examples)
  task = training.make_task(TINY, 7, *digits)
  evaluation = training.compile_evaluation(TINY, *digits)
  program = training.compile_program(TINY, "sam_ire", evaluation, task)
  one, two = (
    training.train(TINY, program, evaluation, task, 7, on_chunk=lambda *_: None)[0]
    for _ in range(2)
  )
  assert one | {"seconds": 0} == two | {"seconds": 0}


def test_wrong_labels_are_wrong_and_as_many_as_asked():
  digits = data.mnist_5k()
  noisy = data.with_wrong_labels(digits, 0.4, seed=3)
  assert np.sum(noisy.labels != digits.labels) == 2000
  assert set(noisy.labels) == set(range(10))
  np.testing.assert_array_equal(noisy.labels, data.with_wrong_labels(digits, 0.4, seed=3).labels)


def test_batches_are_permutations():
  order = data.batch_order(num_examples=10, batch_size=3, num_steps=7, seed=0)
  assert order.shape == (7, 3)
  for epoch in (order[:3], order[3:6]):
    assert len(set(epoch.ravel().tolist())) == 9


def test_paired_difference():
  mean, error = statistics.paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 6.0])
  assert mean == 2.0
  assert error == pytest.approx(1 / np.sqrt(3))
  # What the seeds share cancels: the unpaired error would be 1.8.
  assert statistics.paired_difference([10.0, 50.0, 90.0], [9.0, 49.0, 89.0]) == (1.0, 0.0)
  assert statistics.paired_difference([2.0], [1.0]) == (1.0, None)
  assert statistics.mean_and_error([1.0, np.nan]) == (None, None)


def test_tuning_was_the_same_for_every_method():
  assert set(TUNING["trials"]) == set(COMPARED)
  assert {len(trials) for trials in TUNING["trials"].values()} == {len(tuning.SGD)}
  assert not set(TUNING["seeds"]) & set(Config(methods={}).seeds)
  for method, trials in TUNING["trials"].items():
    assert TUNING["chosen"][method] == tuning.best(trials)
    assert {len(trial["validation_accuracy"]) for trial in trials} == {len(TUNING["seeds"])}
