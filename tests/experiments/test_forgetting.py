"""What is kept at equal losses on the new corpus, on curves whose distance is known."""

import json
import math

import numpy as np
import pytest

from experiments.commands.program import main
from experiments.comparisons.forgetting import curve, distance
from experiments.config import files

ONE = [(3.0, 1.5), (2.0, 2.0), (1.8, 2.5)]
OTHER = [(3.0, 1.6), (2.2, 2.0), (1.9, 2.3)]


def rows(points, seed=0):
  """A run's, of (loss on the new corpus, loss on the old) before fine-tuning and at rising rates."""
  before = {"second_before_32": points[0][0], "first_before_32": points[0][1]}
  few = {"first_before_4": points[0][1] + 0.1}
  return [
    {"seed": seed, "learning_rate": rate, "second_after_32": new, "first_after_32": old}
    | before
    | few
    for rate, (new, old) in zip((0.01, 0.1, 1.0), points[1:], strict=False)
  ]


def test_distance_is_a_mean_over_losses_that_both_reach():
  # From 1.9 to 2.2 the differences are -.05, -.2 (at 2.0) and -.1, linear between them.
  of = distance(np.array(ONE), np.array(OTHER))
  assert of == pytest.approx((0.1 * (-0.05 - 0.2) + 0.2 * (-0.2 - 0.1)) / 2 / 0.3)
  assert distance(np.array(OTHER), np.array(ONE)) == pytest.approx(-of)
  higher = np.array([(new, old + 0.25) for new, old in ONE[:2]])
  assert distance(np.array(ONE[:2]), higher) == pytest.approx(-0.25)  # of one rate alone
  assert math.isnan(distance(np.array(ONE), np.array(OTHER[:1])))


@pytest.mark.parametrize("last", [(1.9, 2.6), (2.1, 3.0), (None, None)])
def test_a_curve_ends_where_the_new_corpus_is_learned_no_better(last):
  points = [*ONE[:2], last, (1.7, 2.7)]
  kept = 4 if last[0] == 1.9 else 2
  assert curve(rows(points)[::-1]).tolist() == [list(point) for point in points[:kept]]


@pytest.fixture
def directories(tmp_path):
  """Fine-tunings of runs that took 100, 150 and 200 steps, and of methods that paid for more."""
  moved = lambda points, by: [(new, old + by) for new, old in points]
  paid = {"adamw": {100: 100, 150: 150, 200: 200}, "sam": {100: 200}, "rst": {100: 149}}
  apart = {("adamw", 100): 0.3, ("adamw", 150): 0.2, ("adamw", 200): 0.1, ("rst", 100): 0.15}
  made = []
  for steps in (100, 150, 200):
    methods = [method for method in paid if steps in paid[method]]
    runs = {m: [{"seed": seed, "gradients": paid[m][steps]} for seed in (0, 1, 2)] for m in methods}
    before, after = tmp_path / str(steps), tmp_path / f"{steps}-tuned"
    files.write_json(before / "compare.json", {"amount": steps, "unit": "steps"})
    files.write_json(before / "results.json", {"runs": runs})
    config = {"name": "llama", "opt": {"learning_rate": steps}, "training": {"budget": 7}}
    spec = {"pretrained": f"../{steps}", "config": config, "methods": methods, "seeds": 3}
    spec |= {"learning_rates": [0.01, 0.1], "bits": [8, 4], "versions": {}}
    found = {
      method: [
        row
        for seed in (0, 1, 2)
        for row in rows(moved(ONE, apart.get((method, steps), 0.0) + 0.01 * seed), seed)
      ]
      for method in methods
    }
    files.write_json(after / "compare.json", spec)
    files.write_json(after / "results.json", {"runs": found})
    made.append(after)
  return made


def test_each_method_is_compared_with_the_strongest_run_as_cheap(directories, tmp_path):
  out = tmp_path / "out"
  assert main(["forgetting", *map(str, directories), "--out", str(out)]) == 0
  tables = json.loads((out / "forgetting.json").read_text())["tables"]
  told = lambda name: [
    (row["method"], row["rival"], round(row["difference"], 3)) for row in tables[name]
  ]
  assert told("gradients") == [
    ("sam, 100 steps", "adamw, 200 steps", -0.1),
    ("rst, 100 steps", "adamw, 150 steps", -0.05),  # 149 gradients are as many
  ]
  assert told("steps") == [
    ("sam, 100 steps", "adamw, 100 steps", -0.3),
    ("rst, 100 steps", "adamw, 100 steps", -0.15),
  ]
  assert (told("gradients_4"), told("steps_4")) == (told("gradients"), told("steps"))
  assert [row["p_holm"] for row in tables["gradients"]] == [0.5, 0.5]  # twice 2 of 8 signs
  page = (out / "report.html").read_text()
  assert "<td>sam, 100 steps</td><td>\u22120.1000 ± 0.0000</td><td>0.500</td>" in page
  assert (out / "forgetting-dark.png").exists()


def test_refuses_what_is_not_alike(directories, tmp_path, capsys):
  spec = json.loads((directories[1] / "compare.json").read_text()) | {"learning_rates": [0.01]}
  del spec["digest"]
  files.write_json(directories[1] / "compare.json", spec)
  flags = "--out", str(tmp_path / "out")
  refused = lambda *more: (main(["forgetting", *more, *flags]), capsys.readouterr().err)
  code, said = refused(*map(str, directories))
  assert code == 2
  assert "150-tuned is not like" in said
  assert "learning_rates" in said
  assert "its `fine-tune` is needed" in refused(str(directories[0]).removesuffix("-tuned"))[1]
  assert "--reference sgd is in none" in refused(str(directories[0]), "--reference", "sgd")[1]
