"""The speed-up of a method: the reference's steps to the same final loss, over the method's own.

Runs of different lengths have different schedules, so that every point is the end of a finished
run. Between the reference's points the loss is interpolated linearly in the logarithm of the steps, and drawn on beyond them.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.comparisons import together
from experiments.config import Refusal, files
from experiments.measures import statistics

PAID = "gradients", "steps_per_second", "peak_memory_mb"


def steps_to(loss: float, points: Sequence[tuple[int, float]]) -> float:
  """Steps after which ``points``, pairs (steps, loss) in order, first reach ``loss``.

  Outside of what they reached, their first or last line is drawn on; where that does not fall, the
  end itself is the bound. No run is left out, as those that are would be a method's worst or best.
  """
  pairs = list(itertools.pairwise(points))
  at_once = loss >= points[0][1]  # also where a later point rises above it
  within = [pair for pair in pairs if pair[1][1] <= loss <= pair[0][1]]
  (s0, l0), (s1, l1) = pairs[0] if at_once else within[0] if within else pairs[-1]
  if l1 >= l0:
    return float(s0 if at_once else s1)
  share = (l0 - loss) / (l0 - l1)
  return math.exp((1 - share) * math.log(s0) + share * math.log(s1))


def speed_ups(runs: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
  """One row a method and length; ``runs`` hold "method", "steps", "seed", "loss" and ``PAID``.

  A speed-up is paired by seed, and over all seeds; "drawn_on" counts those whose loss is above
  that of the reference's shortest run, or below all of its runs. "in_gradients" is the same over
  gradients: those that the reference pays for its steps, over the method's own.
  """
  curves: dict[int, list[tuple[int, float]]] = {}
  of_reference = [run for run in runs if run["method"] == reference]
  for run in of_reference:
    curves.setdefault(run["seed"], []).append((run["steps"], run["loss"]))
  groups: dict[tuple[str, int], list[dict]] = {}
  paid_a_step, _ = statistics.mean_and_error(
    [run["gradients"] / run["steps"] for run in of_reference]
  )
  for run in runs:
    groups.setdefault((run["method"], run["steps"]), []).append(run)
  rows = []
  for (method, steps), group in sorted(groups.items()):
    row = {"method": method, "steps": steps, "n": len(group)}
    row["loss"], row["loss_error"] = statistics.mean_and_error([run["loss"] for run in group])
    for name in PAID:
      row[name], _ = statistics.mean_and_error([run[name] for run in group])
    if method != reference:
      ratios, drawn_on = [], 0
      for run in group:
        points = sorted(curves[run["seed"]])
        reached = [loss for _, loss in points]
        drawn_on += not min(reached) <= run["loss"] <= reached[0]
        ratios.append(steps_to(run["loss"], points) / steps)
      row["speed_up"], row["speed_up_error"] = statistics.mean_and_error(ratios)
      row["drawn_on"] = drawn_on
      row["in_gradients"] = row["speed_up"] * steps * paid_a_step / row["gradients"]
    rows.append(row)
  return rows


def measure(directories: Sequence[Path], reference: str, out: Path) -> None:
  """Writes speed_up.json."""
  shared, rows = together.read(directories, "steps")
  kept = "method", "steps", "seed", *PAID
  runs = [
    {name: row[name] for name in kept} | {"loss": row["test_loss"]}
    for row in rows
    if row["test_loss"] is not None
  ]
  lengths = {run["steps"] for run in runs if run["method"] == reference}
  if len(lengths) < 2:
    raise Refusal(f"{reference} needs runs at two numbers of steps; there are {sorted(lengths)}")
  seeds = [
    {run["seed"] for run in runs if run["method"] == reference and run["steps"] == length}
    for length in lengths
  ]
  if any(run["seed"] not in set.intersection(*seeds) for run in runs):
    raise Refusal(f"{reference} needs runs with the same seeds as the others")
  out.mkdir(parents=True, exist_ok=True)
  found = {"reference": reference, "rows": speed_ups(runs, reference), "runs": runs}
  files.write_csv(out / "speed_up.csv", found["rows"])
  files.write_json(out / "speed_up.json", found | shared)
