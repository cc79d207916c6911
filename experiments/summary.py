"""From runs to the rows of a table: means, standard errors, paired differences."""

import math
from collections.abc import Sequence

import numpy as np


def finite(x) -> float | None:
  """``x`` as JSON can hold it, which has neither NaN nor infinity."""
  return float(x) if math.isfinite(x) else None


def mean_and_error(values) -> tuple[float | None, float | None]:
  """The mean and its standard error; one value alone has none."""
  values = np.asarray(values, np.float64)
  error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
  return finite(np.mean(values)), finite(error)


def paired_difference(values, reference) -> tuple[float | None, float | None]:
  """Mean and standard error of the differences, seed by seed: what seeds share cancels."""
  return mean_and_error(np.asarray(values, np.float64) - np.asarray(reference, np.float64))


def summarise(
  runs: dict[str, list[dict]],
  *,
  key: str = "test_accuracy",
  reference: str = "sgd",
  with_error: Sequence[str] = (),
  means: Sequence[str] = ("steps", "gradients", "seconds"),
) -> list[dict]:
  """One row a method; ``runs`` hold the same seeds in the same order.

  "difference" is of ``key``, to the runs of ``reference``; ``with_error`` and ``means`` name what
  else is averaged, with a standard error or without.
  """
  rows = []
  for method, seeds in runs.items():
    column = {name: [run[name] for run in seeds] for name in seeds[0]}
    row = {"method": method, "n": len(seeds)}
    for name in (key, *with_error):
      row[name], row[name + "_error"] = mean_and_error(column[name])
    row["difference"], row["difference_error"] = paired_difference(
      column[key], [run[key] for run in runs[reference]]
    )
    for name in means:
      row[name], _ = mean_and_error(column[name])
    rows.append(row)
  return rows
