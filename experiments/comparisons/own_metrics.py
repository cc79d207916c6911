"""The metrics that methods report, averaged over windows of the training."""

import math

import numpy as np

WINDOWS = 20  # equal parts of the steps, over which values are averaged
# Counts, which only grow, and a setting.
LEFT_OUT = ("count", "refreshes", "extra_gradients", "sharpness_steps", "probability")


def names(rows: list[dict]) -> list[str]:
  """The names of a method's metrics in lines of metrics.jsonl, without counts and settings."""
  found = dict.fromkeys(name for row in rows for name in row if "/" in name)
  return [name for name in found if name.partition("/")[2].partition("[")[0] not in LEFT_OUT]


def over_training(runs: list[list[dict]]) -> dict[str, list[tuple[float, float]]]:
  """Pairs (share of the steps, mean in that window) of each metric, from all seeds' lines."""
  found = names(runs[0]) if all(runs) else []
  return {name: means_in_windows(runs, name) for name in found}


def means_in_windows(runs: list[list[dict]], name: str) -> list[tuple[float, float]]:
  """The pairs of one metric, without windows that have no finite value."""
  values: list[list[float]] = [[] for _ in range(WINDOWS)]
  for rows in runs:
    last = rows[-1]["step"]
    for row in rows:
      if math.isfinite(row[name]):
        values[min(WINDOWS - 1, (row["step"] - 1) * WINDOWS // last)].append(row[name])
  middle = lambda window: (window + 0.5) / WINDOWS
  return [(middle(i), float(np.mean(found))) for i, found in enumerate(values) if found]
