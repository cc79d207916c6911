"""What is reached for the gradients that are paid, and which methods nothing cheaper beats."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from experiments.comparisons import together
from experiments.config import Refusal, files
from experiments.measures import statistics
from experiments.measures.score import score_of_table
from experiments.presets.choose import SHARED
from experiments.training import run_directory


def frontier(
  runs: list[dict[str, Any]],
  key: str,
  *,
  higher_is_better: bool,
  reference: str,
  keeps: str | None = None,
  margin: float = 0.0,
) -> list[dict[str, Any]]:
  """One row a method and budget, cheapest first.

  ``runs`` hold "method", "amount", "unit", "seed", "gradients", "steps", ``key`` and, where they are
  kept, "scores" of the test examples. A row's "difference" is to the reference's runs called "base":
  of those that pay no more gradients, the ones with the best mean, so that stopping early is the
  reference's right, and luck is on its side. It is paired by seed, with its 95 % interval, its
  p-value, and "p_holm", corrected for the number of rows of other methods. "on_frontier" holds where
  no row that pays as little has a better mean.

  With ``keeps``, the name of a method, "keeps_p" is of "worse than that method at the same budget by
  ``margin`` or more", one-sided, after the same correction.
  """
  sign = 1 if higher_is_better else -1
  groups: dict[tuple[str, int, str], dict[int, dict[str, Any]]] = {}
  for run in runs:
    groups.setdefault((run["method"], run["amount"], run["unit"]), {})[run["seed"]] = run
  column = lambda at, name: [run.get(name) for _, run in sorted(groups[at].items())]
  mean = lambda at, name: statistics.mean_and_error(column(at, name))[0]
  bases = [at for at in groups if at[0] == reference]
  rows = []
  for at in groups:
    method, amount, unit = at
    affordable = [base for base in bases if mean(base, "gradients") <= mean(at, "gradients")]
    base = max(
      affordable or [min(bases, key=lambda base: mean(base, "gradients"))],
      key=lambda base: sign * mean(base, key),
    )
    row = {"method": method, "amount": amount, "unit": unit, "base": base[1], "n": len(groups[at])}
    row |= {name: mean(at, name) for name in ("gradients", "steps")}
    row[key], row[key + "_error"] = statistics.mean_and_error(column(at, key))
    found = statistics.compared(column(at, key), column(base, key))
    row |= statistics.untested(found) if method == reference else found
    row["difference_test_error"] = (
      None
      if at == base
      else statistics.error_over_examples(column(at, "scores"), column(base, "scores"))
    )
    kept = keeps, amount, unit
    if kept in groups and method not in (keeps, reference):
      behind = sign * statistics.differences(column(at, key), column(kept, key))
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


def add_labels(rows: list[dict[str, Any]], tuned: Collection[str]) -> None:
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
      row["label"] += f", {row['amount']:,} {row['unit']}"
  if len({row["label"] for row in rows}) < len(rows):
    for row in rows:
      row["label"] = f"{row['method']}, {row['amount']:,} {row['unit']}"


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
    keeps=keeps,
    margin=margin,
  )
  tuned = {
    name for one in results for trials in one["trials"].values() for x in trials for name in x
  }
  add_labels(rows, tuned)
  out.mkdir(parents=True, exist_ok=True)
  files.write_csv(out / "frontier.csv", rows)
  found = {"reference": reference, "keeps": keeps, "margin": margin, "rows": rows}
  files.write_json(out / "frontier.json", found | shared)
