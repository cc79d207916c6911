"""From runs to the rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.measures import statistics


def scalars(run: dict[str, Any]) -> dict[str, Any]:
  """What of a run is one number or word: no curves."""
  return {name: x for name, x in run.items() if not isinstance(x, list | dict | tuple)}


def run_rows(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
  """A row a run, methods and seeds in order."""
  return [{"method": method} | scalars(run) for method, seeds in runs.items() for run in seeds]


def summarise(
  runs: dict[str, list[dict]],
  *,
  key: str = "test_accuracy",
  reference: str = "sgd",
  with_error: Sequence[str] = (),
  means: Sequence[str] = ("steps", "gradients", "seconds"),
  scores: Mapping[str, Sequence[np.ndarray | None]] | None = None,
) -> list[dict]:
  """One row a method; ``runs`` hold the same seeds in the same order.

  "difference" is of ``key``, to the runs of ``reference``, with its standard error, its 95 %
  interval, the p-value of the sign-flip test, and "p_holm", corrected for the number of methods.
  ``with_error`` and ``means`` name what else is averaged, with a standard error or without.
  With ``scores``, of each run's test examples, the difference has a standard error over these too,
  "difference_test_error".
  """
  rows = []
  for method, seeds in runs.items():
    column = {name: [run[name] for run in seeds] for name in seeds[0]}
    row = {"method": method, "n": len(seeds)}
    for name in (key, *with_error):
      row[name], row[name + "_error"] = statistics.mean_and_error(column[name])
    found = statistics.compared(column[key], [run[key] for run in runs[reference]])
    row |= statistics.untested(found) if method == reference else found
    if scores is not None:
      error = statistics.error_over_examples(scores[method], scores[reference])
      row["difference_test_error"] = None if method == reference else error
    for name in means:
      row[name], _ = statistics.mean_and_error(column[name])
    rows.append(row)
  statistics.add_holm(rows)
  return rows
