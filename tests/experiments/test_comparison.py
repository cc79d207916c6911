"""A comparison: what it runs, what it does not run again, and what it says."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from experiments.commands.program import main
from experiments.comparisons import equal_budgets
from experiments.comparisons.tuning import Grid
from experiments.config import Refusal
from experiments.reports import directory as report
from tests.experiments import runs
from tests.experiments.small import DIGITS, changed

pytestmark = pytest.mark.slow  # eight runs and a minute

SCORES = "test_scores.npy"
TINY = equal_budgets.Comparison(
  config=changed(DIGITS, training={"evaluations": 2}),
  methods=("sgd", "rst"),
  seeds=2,
  unit="gradients",
  amount=8,
  grid=Grid(scales=(0.5, 2.0), trial_seeds=1),
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
  """(directory, the runs that were trained) of a comparison that was killed once."""
  out, console = tmp_path_factory.mktemp("compared"), Console(quiet=True)
  trained = runs.killed_once(lambda: equal_budgets.compare(TINY, out, console), out, at=6)
  report.write(out, console)
  return out, trained


def test_repeats_no_finished_run(compared):
  _, trained = compared
  assert len(trained) == len(set(trained)) + 1  # the one that was killed
  trials = [path for path in trained if path.startswith("trials")]
  assert {path.rpartition("/")[0].partition("rho=")[2] for path in trials} >= {"0.025", "0.1"}
  seeds = [f"runs/{m}/seed-{s}" for m in TINY.methods for s in range(TINY.seeds)]
  assert set(trained) == set(trials + seeds)


def test_results_are_those_of_the_runs(compared):
  results = json.loads((compared[0] / "results.json").read_text())
  for row in results["table"]:
    runs = results["runs"][row["method"]]
    values = [one["test_accuracy"] for one in runs]
    assert row["n"] == len(runs) == 2
    assert row["test_accuracy"] == pytest.approx(np.mean(values))
    assert row["test_accuracy_error"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(2))
    sgd = [one["test_accuracy"] for one in results["runs"]["sgd"]]
    assert row["difference"] == pytest.approx(np.mean(values) - np.mean(sgd))
    assert (row["p"], row["p_holm"]) == ((None, None) if row["method"] == "sgd" else (0.5, 0.5))
    read = lambda method, seed: np.load(compared[0] / "runs" / method / f"seed-{seed}" / SCORES)
    own = sum(read(row["method"], seed) - read("sgd", seed) for seed in (0, 1)) / 2
    error = np.std(own, ddof=1) / np.sqrt(len(own))
    assert row["difference_test_error"] == (
      None if row["method"] == "sgd" else pytest.approx(error, rel=1e-5)
    )
    assert np.mean(own) == pytest.approx(row["difference"], abs=1e-4)
    assert row["gradients"] >= TINY.amount
    assert {len(one["curve"]) for one in runs} == {2}
  assert len(results["trials"]["sgd"]) == 1  # its own setting: nothing of it varies here
  trials = results["trials"]["rst"]
  best = max(trials, key=lambda trial: trial["validation_accuracy"])  # the first of equal ones
  assert results["chosen"]["rst"]["method"]["rho"] == best["rho"]
  with open(compared[0] / "table.csv", newline="") as file:
    sgd, rst = csv.DictReader(file)
  assert (sgd["method"], sgd["p_holm"]) == ("sgd", "")
  assert float(rst["difference_low"]) == results["table"][1]["difference_low"]


def test_trials_say_validation_in_every_file(compared):
  directory = next((compared[0] / "trials" / "rst").glob("*/seed-1000"))
  for name in ("summary.json", "metrics.jsonl"):
    written = (directory / name).read_text()
    assert "validation" in written
    assert "test" not in written


def test_report_is_drawn_again_from_the_files(compared, capsys):
  out, _ = compared
  page = (out / "report.html").read_text()
  for text in (
    "sgd",
    "rst",
    "8 gradients",
    "of rst. Chosen at an edge of what was tried: ",
    "peak,\nMB",
    "<td>0.500</td>",
    "Differences from sgd: test accuracy",
    "test set,\n±",
  ):
    assert text in page
  assert page.count("data:image/png;base64,") == 4
  (out / "report.html").unlink()
  assert main(["report", str(out)]) == 0
  assert (out / "report.html").read_text() == page
  run_directory = out / "runs" / "rst" / "seed-0"
  assert main(["report", str(run_directory)]) == 0
  assert "MB at most" in (run_directory / "report.html").read_text()


def test_refuses_another_comparison_and_an_unfinished_one(compared, tmp_path, capsys):
  with pytest.raises(Refusal, match="--seeds is 2 there, 3 here"):
    equal_budgets.compare(dataclasses.replace(TINY, seeds=3), compared[0], Console(quiet=True))
  assert main(["report", str(tmp_path)]) == 2
  assert "neither a run nor a finished comparison" in capsys.readouterr().err


def test_seconds_become_steps():
  class Runs:
    def train(self, config, *path):
      assert config.training.unit == "steps"
      return {"steps_per_second": 12.5}

  timed = dataclasses.replace(TINY, unit="seconds", amount=10)
  config = equal_budgets.with_budget(timed, DIGITS, Runs(), "sam")
  training = config.training
  assert (training.unit, training.budget) == ("steps", 125)


@pytest.mark.parametrize(("unit", "budget"), [("steps", 20), ("gradients", 30)])
def test_a_curve_has_every_evaluation_once(tmp_path, unit, budget):
  """Of a method that pays three gradients in two steps, evaluated at halves of either budget."""
  rows = [{"split": "test", "step": 10 * k, "gradients": 15 * k, "accuracy": k} for k in (1, 2)]
  rows += [{"split": "train", "step": k, "loss": 1 / k, "accuracy": 50 * k} for k in (1, 2)]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

  class Runs:
    out = tmp_path

    def train(self, config, *path):
      return {"gradients": 30, "steps": 20}

  config = changed(DIGITS, training={"unit": unit, "budget": budget, "evaluations": 2})
  run = equal_budgets.seed_run(config, Runs())
  assert run["curve"] == [(15, 1), (30, 2)]
  assert (run["train_loss"], run["train_accuracy"]) == (0.5, 100)
