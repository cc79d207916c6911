"""What is reached for the gradients that are paid, and which methods nothing cheaper beats."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.comparisons import together
from experiments.config import Refusal, files
from experiments.measures import statistics
from experiments.measures.score import score_of_table
from experiments.presets.choose import SHARED


def frontier(
  runs: list[dict[str, Any]], key: str, *, higher_is_better: bool, reference: str
) -> list[dict[str, Any]]:
  """One row a method and number of steps, cheapest first.

  ``runs`` hold "method", "steps", "seed", "gradients" and ``key``. A row's "difference" is to the
  reference's shortest runs, paired by seed, with its 95 % interval, its p-value, and "p_holm",
  corrected for the number of other rows. "on_frontier" holds where no row that pays as little has a
  better mean.
  """
  groups: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
  for run in runs:
    groups.setdefault((run["method"], run["steps"]), {})[run["seed"]] = run
  compared_with = groups[min(group for group in groups if group[0] == reference)]
  rows = []
  for (method, steps), group in groups.items():
    values = [run[key] for run in group.values()]
    others = [compared_with[seed][key] for seed in group]
    row = {"method": method, "steps": steps, "n": len(group)}
    row["gradients"], _ = statistics.mean_and_error([run["gradients"] for run in group.values()])
    row[key], row[key + "_error"] = statistics.mean_and_error(values)
    found = statistics.compared(values, others)
    row |= statistics.untested(found) if group is compared_with else found
    rows.append(row)
  statistics.add_holm(rows)
  rows.sort(key=lambda row: row["gradients"])
  sign = 1 if higher_is_better else -1
  for row in rows:
    as_cheap = [other[key] for other in rows if other["gradients"] <= row["gradients"]]
    row["on_frontier"] = sign * row[key] >= max(sign * value for value in as_cheap)
  return rows


def add_labels(rows: list[dict[str, Any]]) -> None:
  """Adds "label": the method without the settings that all share, which tuning chose anyhow.

  Steps are added where the same label is there at several numbers of them.
  """
  for row in rows:
    name, _, settings = row["method"].partition(":")
    own = [x for x in settings.split(",") if x and x.partition("=")[0] not in SHARED]
    row["label"] = ":".join([name, ",".join(own)]) if own else name
  counts = Counter(row["label"] for row in rows)
  for row in rows:
    if counts[row["label"]] > 1:
      row["label"] += f", {row['steps']:,} steps"
  if len({row["label"] for row in rows}) < len(rows):
    for row in rows:
      row["label"] = f"{row['method']}, {row['steps']:,} steps"


def measure(directories: Sequence[Path], reference: str, out: Path) -> None:
  """Writes frontier.json and frontier.csv."""
  shared, runs = together.read(directories)
  score = score_of_table(files.read_json(directories[0] / "results.json")["table"])
  diverged = sorted({run["method"] for run in runs if run[score.key] is None})
  if diverged:
    raise Refusal(f"{', '.join(diverged)} diverged: leave them out of the comparison")
  if reference not in {run["method"] for run in runs}:
    raise Refusal(f"--reference {reference} is in none of the comparisons")
  rows = frontier(runs, score.key, higher_is_better=score.better == "higher", reference=reference)
  add_labels(rows)
  out.mkdir(parents=True, exist_ok=True)
  files.write_csv(out / "frontier.csv", rows)
  files.write_json(out / "frontier.json", {"reference": reference, "rows": rows} | shared)
