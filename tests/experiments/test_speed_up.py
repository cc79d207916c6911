"""Steps that a method saves, on losses whose answer is known."""

import json
import math

import pytest

from experiments.commands.program import main
from experiments.comparisons import speed_up
from experiments.config import files

SEEDS = (0, 1, 2)
PAID = {"gradients": 1234, "steps_per_second": 5.5, "peak_memory_mb": 678}


def loss_of(steps, seed):
  """Linear in the logarithm of the steps, as the interpolation takes it to be."""
  return 3.0 + 0.1 * seed - 0.5 * math.log(steps)


def runs(method, steps, speed_up):
  paid = PAID | ({"gradients": steps} if method == "adamw" else {})
  return [
    {"method": method, "steps": steps, "seed": seed, "loss": loss_of(steps * speed_up, seed)} | paid
    for seed in SEEDS
  ]


REFERENCE = runs("adamw", 600, 1) + runs("adamw", 900, 1) + runs("adamw", 1200, 1)


def row_of(rows, method):
  return next(row for row in rows if row["method"] == method)


@pytest.mark.parametrize("factor", [1.0, 1.3, 1.5, 1.9, 2.0])
def test_finds_the_factor(factor):
  row = row_of(speed_up.speed_ups(REFERENCE + runs("ire", 600, factor), "adamw"), "ire")
  assert row["speed_up"] == pytest.approx(factor)
  assert row["speed_up_error"] == pytest.approx(0, abs=1e-12)
  assert row["n"] == 3


@pytest.mark.parametrize("factor", [0.9, 2.1])
def test_no_seed_is_left_out_whose_loss_the_reference_did_not_reach(factor):
  """Slower than the shortest run, or faster than the longest: the line is drawn on."""
  mixed = [*runs("ire", 600, factor)[:1], *runs("ire", 600, 1.5)[1:]]
  row = row_of(speed_up.speed_ups(REFERENCE + mixed, "adamw"), "ire")
  assert row["speed_up"] == pytest.approx((factor + 1.5 + 1.5) / 3)
  assert row["drawn_on"] == 1
  assert row["in_gradients"] == pytest.approx(row["speed_up"] * 600 / 1234)


def test_a_reference_that_pays_two_gradients_a_step():
  sam = [run | {"gradients": 2 * run["steps"]} for run in REFERENCE]
  row = row_of(speed_up.speed_ups(sam + runs("ire", 600, 1.5), "adamw"), "ire")
  assert row["in_gradients"] == pytest.approx(2 * 1.5 * 600 / 1234)


def test_a_reference_that_does_not_fall_is_a_bound():
  rising = [(600, 2.0), (900, 2.1)]
  assert speed_up.steps_to(2.5, rising) == 600
  assert speed_up.steps_to(1.5, rising) == 900
  assert speed_up.steps_to(2.1, [(600, 2.0), (900, 2.2), (1200, 1.8)]) == 600  # not 900 and more


def test_pairs_seeds_and_states_the_error():
  ire = [runs("ire", 600, factor)[seed] for seed, factor in enumerate((1.2, 1.4, 1.6))]
  row = row_of(speed_up.speed_ups(REFERENCE + ire, "adamw"), "ire")
  assert row["speed_up"] == pytest.approx(1.4)
  assert row["speed_up_error"] == pytest.approx(0.2 / math.sqrt(3))


def write_comparison(directory, found, unit="steps", data="digits"):
  directory.mkdir()
  config = {"name": "tiny", "data": data, "opt": {}, "training": {"budget": 600}}
  spec = {"config": config, "methods": [], "seeds": 3, "grid": {}, "unit": unit}
  amount = found[0]["steps"]
  files.write_json(directory / "compare.json", spec | {"amount": amount, "versions": {}})
  ended = {}
  for run in found:
    one = {"seed": run["seed"], "steps": run["steps"], "test_loss": run["loss"]}
    one |= {name: run[name] for name in PAID}
    ended.setdefault(run["method"], []).append(one)
  files.write_json(directory / "results.json", {"runs": ended})
  return str(directory)


@pytest.fixture
def shorter(tmp_path):
  return write_comparison(tmp_path / "shorter", runs("adamw", 600, 1) + runs("ire", 600, 1.3))


def test_command_and_report(shorter, tmp_path, capsys):
  longer = write_comparison(tmp_path / "longer", runs("adamw", 900, 1))
  out = tmp_path / "out"
  assert main(["speed-up", shorter, longer, "--out", str(out)]) == 0
  rows = json.loads((out / "speed_up.json").read_text())["rows"]
  assert row_of(rows, "ire")["speed_up"] == pytest.approx(1.3)
  page = (out / "report.html").read_text()
  for text in ("1.30 ± 0.00", "<td>1,234</td><td>5.5</td><td>678</td>"):
    assert text in page
  (out / "report.html").unlink()
  assert main(["report", str(out)]) == 0
  assert (out / "report.html").read_text() == page


@pytest.mark.parametrize(
  ("other", "said"),
  [
    ({"found": runs("sala", 600, 1)}, "adamw needs runs at two numbers of steps; there are [600]"),
    ({"found": runs("adamw", 900, 1)[:2]}, "adamw needs runs with the same seeds"),
    ({"found": runs("ire", 600, 1)}, "both hold ire at 600 steps"),
    ({"found": runs("adamw", 900, 1), "unit": "gradients"}, "compares at equal gradients"),
    ({"found": runs("adamw", 900, 1), "data": "text"}, "--data is digits there, text here"),
  ],
)
def test_refuses(shorter, tmp_path, capsys, other, said):
  longer = write_comparison(tmp_path / "longer", **other)
  assert main(["speed-up", shorter, longer, "--out", str(tmp_path / "out")]) == 2
  error = capsys.readouterr().err
  assert said in error
  assert error.count("\n") == 1


def test_refuses_what_is_no_comparison(shorter, tmp_path, capsys):
  assert main(["speed-up", shorter, str(tmp_path), "--out", str(tmp_path / "out")]) == 2
  assert "holds no finished comparison" in capsys.readouterr().err
