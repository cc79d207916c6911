"""What methods reach for their gradients, on runs whose frontier is known."""

import json

import pytest

from experiments.commands.program import main
from experiments.comparisons.frontier import add_labels, frontier
from experiments.config import files

# Gradients paid, and the score of three seeds.
RUNS = {
  ("sgd", 100): (100, [80.0, 82.0, 81.0]),
  ("sgd", 200): (200, [83.0, 84.0, 85.0]),
  ("rst", 100): (150, [86.0, 88.0, 90.0]),
  ("sam", 100): (200, [87.0, 86.0, 88.0]),
  ("gsam", 100): (200, [89.0, 88.0, 90.0]),
}


def runs(key):
  return [
    {
      "method": method,
      "amount": steps,
      "unit": "steps",
      "steps": steps,
      "seed": seed,
      "gradients": gradients,
      key: value,
    }
    for (method, steps), (gradients, values) in RUNS.items()
    for seed, value in enumerate(values)
  ]


def found(key, **options):
  higher = key == "test_accuracy"
  return frontier(runs(key), key, higher_is_better=higher, reference="sgd", **options)


def on_frontier(rows):
  return [(row["method"], row["amount"]) for row in rows if row["on_frontier"]]


def test_frontier_where_more_is_better():
  rows = found("test_accuracy")
  assert on_frontier(rows) == [("sgd", 100), ("rst", 100), ("gsam", 100)]
  assert [row["gradients"] for row in rows] == [100, 150, 200, 200, 200]
  rst = rows[1]
  assert rst["test_accuracy"] == 88.0
  assert rst["difference"] == pytest.approx(7.0)  # of 6, 6 and 9: paired, and to the shorter runs
  assert rst["difference_error"] == pytest.approx(1.0)
  assert 6.0 <= rst["difference_low"] < 7.0 < rst["difference_high"] <= 9.0
  # Three pairs have 2 of 8 signs at least; three rows of other methods are tested.
  assert [row["p"] for row in rows] == [None, 0.25, None, 0.25, 0.25]
  assert [row["p_holm"] for row in rows] == [None, 0.75, None, 0.75, 0.75]


def test_the_base_is_the_best_that_costs_no_more(monkeypatch):
  """Longer runs are no base of shorter ones, and a shorter run is one where it is the better."""
  rows = {(row["method"], row["amount"]): row for row in found("test_accuracy")}
  assert [rows[at]["base"] for at in (("rst", 100), ("sam", 100), ("sgd", 200))] == [100, 200, 200]
  assert rows["sam", 100]["difference"] == pytest.approx(3.0)
  monkeypatch.setitem(RUNS, ("sgd", 200), (200, [79.0, 80.0, 81.0]))  # too long
  rows = {(row["method"], row["amount"]): row for row in found("test_accuracy")}
  assert rows["sam", 100]["base"] == rows["sgd", 200]["base"] == 100
  assert rows["sam", 100]["difference"] == pytest.approx(6.0)


def test_keeps_is_not_worse_by_a_margin():
  rows = found("test_accuracy", keeps="sam", margin=0.3)
  ps = {(row["method"], row["amount"]): row["keeps_p"] for row in rows}
  # rst is 1 behind, 2 and 2 ahead; gsam is 2 ahead in all three: 1 of 8 choices of signs.
  assert ps == {
    ("sgd", 100): None,
    ("sgd", 200): None,
    ("sam", 100): None,
    ("rst", 100): 2 / 8,
    ("gsam", 100): 2 / 8,
  }


def test_frontier_where_less_is_better():
  rows = found("test_loss")
  assert on_frontier(rows) == [("sgd", 100)]


@pytest.fixture
def directories(tmp_path):
  made = []
  for amount in (100, 200):
    config = {"name": "tiny", "data": "digits", "opt": {}, "training": {"budget": amount}}
    spec = {"config": config, "methods": [], "seeds": 3, "grid": {}, "unit": "steps"}
    ended = {}
    for run in runs("test_accuracy"):
      if run["steps"] == amount:
        ended.setdefault(run["method"], []).append(run)
    made.append(tmp_path / str(amount))
    files.write_json(made[-1] / "compare.json", spec | {"amount": amount, "versions": {}})
    table = [{"test_accuracy": 80.0}]
    files.write_json(made[-1] / "results.json", {"runs": ended, "table": table, "trials": {}})
  return list(map(str, made))


def test_command_and_report(directories, tmp_path):
  out = tmp_path / "out"
  assert main(["frontier", *directories, "--out", str(out)]) == 0
  rows = json.loads((out / "frontier.json").read_text())["rows"]
  assert on_frontier(rows) == [("sgd", 100), ("rst", 100), ("gsam", 100)]
  page = (out / "report.html").read_text()
  assert (
    "<td>rst</td><td>88.0 ± 1.2</td><td>+7.0 ± 1.0</td><td>0.750</td><td>100 steps</td><td>150</td>"
    in page
  )
  assert "With 3 seeds and 3 comparisons it cannot be below 0.75," in page
  (out / "report.html").unlink()
  assert main(["report", str(out)]) == 0
  assert (out / "report.html").read_text() == page
  assert (out / "frontier-dark.png").exists()


def test_refuses_a_reference_that_is_not_there(directories, tmp_path, capsys):
  flags = "--out", str(tmp_path / "out"), "--reference", "adamw"
  assert main(["frontier", *directories, *flags]) == 2
  assert "--reference adamw is in none of the comparisons" in capsys.readouterr().err


def test_labels_leave_out_what_all_share_and_what_was_tuned():
  methods = ("sgd", 100), ("sgd", 200), ("late_sam:start=0.5,rho=0.2", 100), ("rst:rho=0.1", 100)
  rows = [{"method": method, "amount": amount, "unit": "steps"} for method, amount in methods]
  add_labels(rows, {"rho", "learning_rate"})
  labels = [row["label"] for row in rows]
  assert labels == ["sgd, 100 steps", "sgd, 200 steps", "late_sam:start=0.5", "rst"]
  rows = [
    {"method": f"sam:learning_rate={rate}", "amount": 100, "unit": "gradients"}
    for rate in (0.1, 0.2)
  ]
  add_labels(rows, set())
  assert [row["label"] for row in rows] == [
    "sam:learning_rate=0.1, 100 gradients",
    "sam:learning_rate=0.2, 100 gradients",
  ]
