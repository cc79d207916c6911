"""Correlations of flatness with what runs reach, on runs whose taus are known."""

import json

import jax
import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from experiments import presets
from experiments.commands.program import main
from experiments.comparisons import correlations as compared_runs
from experiments.comparisons import equal_budgets
from experiments.config import files
from experiments.measures import correlations, flatness
from experiments.measures.correlations import Group
from experiments.measures.flatness import FlatnessOptions
from tests.experiments.small import DIGITS, changed, shrunk


def group(method, flat, score):
  return Group(method, np.array(flat, float), np.array(score, float))


def by_kind(groups):
  return {row["kind"]: row for row in correlations.correlations(groups)}


# The flatter method is better, and inside every method the flatter seed is worse.
SIMPSON = [
  group(name, [10.0 * i + seed for seed in range(3)], [10.0 * i - seed for seed in range(3)])
  for i, name in enumerate(("sgd", "sam", "asam", "rst"))
]


def test_what_differs_between_methods_is_told_from_what_differs_between_seeds():
  found = by_kind(SIMPSON)
  assert (found["methods"]["tau"], found["seeds"]["tau"]) == (1.0, -1.0)
  # 12 * 11 / 2 = 66 pairs, of which 4 * 3 lie in a method.
  assert found["runs"]["tau"] == pytest.approx((54 - 12) / 66)
  assert [found[kind]["n"] for kind in correlations.KINDS] == [4, 12, 4]
  assert (found["seeds"]["low"], found["seeds"]["high"]) == (-1.0, -1.0)
  assert found["runs"]["low"] < found["runs"]["tau"] < found["runs"]["high"] < 1


def test_taus_by_hand():
  groups = [
    group("sgd", [1, 2, 3, 4], [1, 2, 4, 3]),  # 5 of 6 pairs agree: 4 / 6
    group("sam", [1, 2, 3], [2, 2, 1]),  # 2 pairs disagree, 1 is tied: -2 / sqrt(3 * 2)
    group("rst", [5], [9]),  # tells nothing about seeds
    group("sala", [1, 2], [3, 3]),  # neither does this
  ]
  found = by_kind(groups)
  assert found["seeds"]["tau"] == pytest.approx((4 / 6 - 2 / 6**0.5) / 2)
  assert found["seeds"]["n"] == 2
  # Means (2.5, 2.5), (2, 5/3), (5, 9), (1.5, 3): the last is above both others where it is flatter.
  assert found["methods"]["tau"] == pytest.approx((4 - 2) / 6)


def test_spearmans_by_hand():
  groups = [
    group("sgd", [1, 2, 3, 40], [1, 2, 4, 3]),  # two ranks differ by 1: 1 - 6 * 2 / (4 * 15)
    group("sam", [1, 2, 3], [2, 2, 1]),  # ranks 2.5, 2.5 and 1: -1.5 / sqrt(2 * 1.5)
    group("rst", [5], [9]),
  ]
  found = by_kind(groups)
  assert found["seeds"]["spearman"] == pytest.approx((0.8 - 1.5 / 3**0.5) / 2)
  # Flatness has ranks 3, 1 and 2, the score 2, 1 and 3.
  assert found["methods"]["spearman"] == pytest.approx(1 - 6 * 2 / (3 * 8))
  low, high = (found["seeds"][f"spearman_{bound}"] for bound in ("low", "high"))
  assert (low, high) == pytest.approx((-1.5 / 3**0.5, 0.8))  # of either method alone


def test_what_chance_makes_of_ranks():
  """Of 11 methods in random order 5 % have a rank correlation beyond the bound, about."""
  rng = np.random.default_rng(0)
  orders = [rng.permutation(11) for _ in range(2000)]
  found = np.array([correlations.spearman(np.arange(11), order) for order in orders])
  share = np.mean(np.abs(found) > correlations.spearman_by_chance(11))
  assert share == pytest.approx(0.05, abs=0.02)


def test_resamples_have_the_correlations_of_the_repeated_pairs():
  rng = np.random.default_rng(0)
  pairs = rng.integers(0, 4, (9, 2)).astype(float)  # with ties
  counts = rng.integers(0, 3, (20, 9))
  repeated = [np.repeat(pairs, count, axis=0) for count in counts]
  expected = [scipy.stats.kendalltau(*rows.T).statistic for rows in repeated]
  np.testing.assert_allclose(correlations.taus_of_resamples(pairs, counts), expected, atol=1e-12)
  expected = [scipy.stats.spearmanr(*rows.T).statistic for rows in repeated]
  found = correlations.spearmans_of_resamples(pairs, counts)
  np.testing.assert_allclose(found, expected, atol=1e-12)
  for of_resamples in (correlations.taus_of_resamples, correlations.spearmans_of_resamples):
    assert np.isnan(of_resamples(np.ones((3, 2)), np.ones((1, 3), int))).all()


def test_interval_draws_whole_methods():
  """Ten copies of every run say nothing more about methods, and ten times the methods do."""
  rng = np.random.default_rng(1)
  values = rng.normal(size=(60, 2)) @ [[1, 0.5], [0, 1]]
  width = lambda row: row["high"] - row["low"]
  few = [group(str(i), [x], [y]) for i, (x, y) in enumerate(values[:6])]
  copies = [group(one.method, [*one.flatness] * 10, [*one.score] * 10) for one in few]
  many = [group(str(i), [x], [y]) for i, (x, y) in enumerate(values)]
  assert width(by_kind(copies)["runs"]) == pytest.approx(width(by_kind(few)["runs"]))
  assert width(by_kind(many)["runs"]) < 0.5 * width(by_kind(few)["runs"])
  # A method that several comparisons hold is drawn with all its runs.
  split = [group(name, [x], [y]) for x, y in values[:6] for name in ("sgd", "sam", "rst")]
  whole = [group(name, *values[:6].T) for name in ("sgd", "sam", "rst")]
  assert width(by_kind(split)["runs"]) == pytest.approx(width(by_kind(whole)["runs"]))
  assert by_kind(few[:2])["methods"]["low"] is None  # of two methods no interval is made


METHODS = {  # accuracies, test losses and training losses of three seeds
  "sgd": ([80.0, 81.0, 82.0], [0.95, 0.85, 0.75], 0.1),
  "sam": ([84.0, 85.0, 86.0], [0.65, 0.6, 0.55], 0.05),
  "rst": ([87.0, 88.0, 89.0], [0.3, 0.2, 0.1], 0.0),
}


def write_comparison(directory, options=None, key="test_accuracy", **config):
  """Runs whose "trace" falls where they are better, and whose other measures rise."""
  resolved = {"name": "tiny", "data": "digits", "model": "mixer"} | config
  resolved["training"] = {"label_smoothing": 0.0}
  runs, measured = {}, {}
  for method, (accuracies, losses, train_loss) in METHODS.items():
    runs[method], measured[method] = [], []
    for seed, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True)):
      scores = {"test_loss": loss, "test_accuracy": accuracy if key == "test_accuracy" else 0.0}
      runs[method].append({"seed": seed, "steps": 100} | scores)
      flat = dict.fromkeys(flatness.MEASURES, accuracy) | {"trace": 100 - accuracy}
      measured[method].append(flat | {"train_loss": train_loss})
  measured["rst"][0]["top_eigenvalue"] = None  # it was not finite
  files.write_json(directory / "compare.json", {"config": resolved, "unit": "gradients"})
  files.write_json(
    directory / "results.json", {"runs": runs, "table": [{"method": "sgd", key: 1.0}]}
  )
  options = {"rho": 0.2, "adaptive_rho": 0.5, "sigma": 0.02} | (options or {})
  files.write_json(directory / "flatness.json", {"options": options, "runs": measured})
  return str(directory)


@pytest.mark.parametrize("key", ["test_accuracy", "test_loss"])
def test_command_and_report(tmp_path, key):
  out = tmp_path / "out"
  assert main(["correlate", write_comparison(tmp_path / "one", key=key), "--out", str(out)]) == 0
  found = json.loads((out / "correlations.json").read_text())
  rows = {(row["measure"], row["with"], row["kind"]): row for row in found["rows"]}
  assert len(rows) == len(flatness.MEASURES) * 2 * 3
  for kind in correlations.KINDS:
    for target in (key, "gap"):  # the training losses turn no order round
      assert rows["trace", target, kind]["tau"] == 1.0
      assert rows["loss_increase", target, kind]["tau"] == -1.0
      assert rows["loss_increase", target, kind]["spearman"] == pytest.approx(-1.0)
  assert rows["trace", key, "runs"]["n"] == 9
  assert rows["top_eigenvalue", key, "runs"]["n"] == 8
  page = (out / "report.html").read_text()
  assert "<td>trace</td><td>+1.00 (+1.00 to +1.00)</td>" in page
  assert page.count("<td>  Spearman</td><td>+1.00 (+1.00 to +1.00)</td>") == 2  # trace's
  assert ("With test accuracy" if key == "test_accuracy" else "With test loss") in page
  (out / "report.html").unlink()
  assert main(["report", str(out)]) == 0
  assert (out / "report.html").read_text() == page
  assert (out / "correlations-dark.png").exists()
  lines = (out / "correlations.csv").read_text().splitlines()
  assert lines[0] == (
    "measure,with,kind,tau,low,high,spearman,spearman_low,spearman_high,n,methods"
  )
  assert len(lines) == 1 + len(rows)


def test_gap_is_test_loss_minus_training_loss(tmp_path):
  directory = tmp_path / "one"
  write_comparison(directory)
  measured = json.loads((directory / "flatness.json").read_text())
  measured["runs"]["rst"][2]["train_loss"] = None
  files.write_json(directory / "flatness.json", measured)
  gaps = [run["gap"] for run in compared_runs.read(directory)]
  expected = [0.85, 0.75, 0.65, 0.6, 0.55, 0.5, 0.3, 0.2]
  np.testing.assert_allclose(gaps[:8], expected)
  assert gaps[8] is None


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"model": "resnet"}, "is not like"),
    ({"options": {"rho": 0.1}}, "is not like"),
    ({}, "both hold the runs of sgd"),
  ],
)
def test_refuses_what_cannot_be_ranked_together(tmp_path, capsys, change, said):
  directories = write_comparison(tmp_path / "one"), write_comparison(tmp_path / "two", **change)
  assert main(["correlate", *directories, "--out", str(tmp_path / "out")]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line


def test_refuses_what_is_no_comparison(tmp_path, capsys):
  assert main(["correlate", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
  assert "holds no finished comparison" in capsys.readouterr().err


@pytest.mark.slow  # trains and measures two models
@pytest.mark.parametrize(
  ("config", "key"),
  [(DIGITS, "test_accuracy"), (shrunk(presets.CONFIGS["llama-0.9m"]), "test_loss")],
)
def test_measures_what_is_missing(tmp_path, config, key):
  compared = equal_budgets.Comparison(
    config=changed(config, training={"evaluations": 2, "budget": 4, "checkpoint_every": 4}),
    methods=("sgd",) if key == "test_accuracy" else ("adamw",),
    seeds=2,
    unit="gradients",
    amount=4,
  )
  done, out = tmp_path / "done", tmp_path / "out"
  with jax.numpy_dtype_promotion("standard"):
    equal_budgets.compare(compared, done, Console(quiet=True))
    assert main(["correlate", str(done), "--examples", "70", "--out", str(out)]) == 0
    assert main(["report", str(done)]) == 0
  rows = json.loads((out / "correlations.json").read_text())["rows"]
  assert {row["with"] for row in rows} == {key, "gap"}
  assert all(row["tau"] in (-1.0, 1.0) for row in rows if row["kind"] == "runs")
  measured = json.loads((done / "flatness.json").read_text())
  assert measured["options"]["examples"] == FlatnessOptions(examples=70).examples
  assert "<h2>How flat</h2>" in (done / "report.html").read_text()
