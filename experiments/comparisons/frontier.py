"""What is reached for the gradients that are paid, and which methods nothing cheaper beats."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparisons import together
from experiments.config import Refusal, files
from experiments.measures import statistics
from experiments.measures.score import Score, score_of_table
from experiments.presets.choose import SHARED
from experiments.training import run_directory


def frontier(
  runs: list[dict[str, Any]],
  key: str,
  *,
  higher_is_better: bool,
  reference: str,
  held_out: Mapping[int, float],
  keeps: str | None = None,
  margin: float = 0.0,
) -> list[dict[str, Any]]:
  """One row a method and budget, cheapest first.

  ``runs`` hold "method", "amount", "seed", "gradients", "steps", ``key`` and, where they are kept,
  "scores" of the test examples. A row's "difference" is to the reference's runs of budget "base":
  of those that pay no more gradients the best by ``held_out``, its score by budget, so that stopping
  early is the reference's right. It is paired by seed, with its 95 % interval, its p-value, and
  "p_holm", corrected for the number of rows of other methods. "on_frontier" holds where no row that
  pays as little has a better mean.

  With ``keeps``, the name of a method, "keeps_p" is of "worse than that method at the same budget by
  ``margin`` or more", one-sided, after the same correction.
  """
  sign = 1 if higher_is_better else -1
  groups: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
  for run in runs:
    groups.setdefault((run["method"], run["amount"]), {})[run["seed"]] = run
  column = lambda group, name: [run.get(name) for _, run in sorted(group.items())]
  paid = {
    at: statistics.mean_and_error(column(group, "gradients"))[0] for at, group in groups.items()
  }
  bases = [at for at in groups if at[0] == reference]
  rows = []
  for at, group in groups.items():
    affordable = [base for base in bases if paid[base] <= paid[at]] or [min(bases)]
    base = max(affordable, key=lambda base: sign * held_out.get(base[1], 0.0))
    values, others = column(group, key), column(groups[base], key)
    row = {"method": at[0], "amount": at[1], "base": base[1], "n": len(group)}
    row["gradients"], row["steps"] = paid[at], statistics.mean_and_error(column(group, "steps"))[0]
    row[key], row[key + "_error"] = statistics.mean_and_error(values)
    found = statistics.compared(values, others)
    row |= statistics.untested(found) if at in bases else found
    row["difference_test_error"] = (
      None
      if at == base
      else statistics.error_over_examples(column(group, "scores"), column(groups[base], "scores"))
    )
    kept = groups.get((keeps, at[1]))
    if kept is not None and kept is not group and at not in bases:
      behind = sign * statistics.differences(values, column(kept, key))
      row["keeps_p"] = statistics.not_worse_p(behind, margin)
    rows.append(row)
  statistics.add_holm(rows)
  if keeps is not None:
    tested = statistics.holm(row.get("keeps_p") for row in rows)
    for row, p in zip(rows, tested, strict=True):
      row["keeps_p"] = p
  rows.sort(key=lambda row: row["gradients"])
  for row in rows:
    as_cheap = [other[key] for other in rows if other["gradients"] <= row["gradients"]]
    row["on_frontier"] = sign * row[key] >= max(sign * value for value in as_cheap)
  return rows


def add_labels(rows: list[dict[str, Any]], tuned: Collection[str], unit: str) -> None:
  """Adds "label": the method without the settings that all share, and without ``tuned`` ones.

  The budget is added where the same label is there at several of them.
  """
  for row in rows:
    name, _, settings = row["method"].partition(":")
    own = [x for x in settings.split(",") if x and x.partition("=")[0] not in (*SHARED, *tuned)]
    row["label"] = ":".join([name, ",".join(own)]) if own else name
  counts = Counter(row["label"] for row in rows)
  for row in rows:
    if counts[row["label"]] > 1:
      row["label"] += f", {row['amount']:,} {unit}"
  if len({row["label"] for row in rows}) < len(rows):
    for row in rows:
      row["label"] = f"{row['method']}, {row['amount']:,} {unit}"


def measure(
  directories: Sequence[Path],
  reference: str,
  out: Path,
  *,
  keeps: str | None = None,
  margin: float = 0.0,
) -> None:
  """Writes frontier.json and frontier.csv."""
  shared, runs = together.read(directories)
  results = [files.read_json(directory / "results.json") for directory in directories]
  score = score_of_table(results[0]["table"])
  diverged = sorted({run["method"] for run in runs if run[score.key] is None})
  if diverged:
    raise Refusal(f"{', '.join(diverged)} diverged: leave them out of the comparison")
  for name, flag in ((reference, "--reference"), (keeps, "--keeps")):
    if name not in (None, *(run["method"] for run in runs)):
      raise Refusal(f"{flag} {name} is in none of the comparisons")
  for run in runs:
    where = run["directory"] / "runs" / run["method"] / f"seed-{run['seed']}"
    run["scores"] = run_directory.read_scores(where)
  rows = frontier(
    runs,
    score.key,
    higher_is_better=score.better == "higher",
    reference=reference,
    held_out=held_out(directories, results, reference, score),
    keeps=keeps,
    margin=margin,
  )
  tuned = {
    name for one in results for trials in one["trials"].values() for x in trials for name in x
  }
  add_labels(rows, tuned, shared["unit"])
  out.mkdir(parents=True, exist_ok=True)
  files.write_csv(out / "frontier.csv", rows)
  found = {"reference": reference, "keeps": keeps, "margin": margin, "rows": rows}
  files.write_json(out / "frontier.json", found | shared)


def held_out(
  directories: Sequence[Path], results: Sequence[dict], reference: str, score: Score
) -> dict[int, float]:
  """By budget, what the reference's chosen setting reached in its trials; nothing without trials."""
  key, found = score.key.replace("test", "validation"), {}
  best = max if score.better == "higher" else min
  for directory, one in zip(directories, results, strict=True):
    if trials := one["trials"].get(reference):
      amount = files.read_json(directory / "compare.json")["amount"]
      found[amount] = best(float(np.mean(trial[key])) for trial in trials if None not in trial[key])
  return found
