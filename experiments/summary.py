"""From runs to the rows of a table: means, standard errors, paired differences."""

import math

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


def summarise(runs: dict[str, list[dict]]) -> list[dict]:
  """One row a method; ``runs`` hold the same seeds in the same order."""
  sgd_accuracy = [run["test_accuracy"] for run in runs["sgd"]]
  rows = []
  for method, seeds in runs.items():
    column = {key: [run[key] for run in seeds] for key in seeds[0]}
    row = {"method": method}
    row["test_accuracy"], row["test_accuracy_error"] = mean_and_error(column["test_accuracy"])
    row["difference"], row["difference_error"] = paired_difference(
      column["test_accuracy"], sgd_accuracy
    )
    row["loss_increase"], row["loss_increase_error"] = mean_and_error(column["loss_increase"])
    for key in ("steps", "gradients", "seconds"):
      row[key], _ = mean_and_error(column[key])
    rows.append(row)
  return rows
