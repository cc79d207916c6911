"""Rank correlations of flatness with what runs reach: between methods, over runs, over seeds.

A method's runs resemble each other, so that a hundred runs of ten methods are not a hundred
independent ones. All intervals therefore resample whole methods, with all their runs.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from experiments.config.files import finite

KINDS = {  # by their keys
  "methods": "methods' means",
  "runs": "all runs",
  "seeds": "seeds of a method",
}
RESAMPLES = 4000
LEVEL = 0.95
FEWEST_METHODS = 3  # of which intervals are made


class Group(NamedTuple):
  """The runs of a method in one comparison; other comparisons may hold the method too."""

  method: str
  flatness: np.ndarray
  score: np.ndarray  # more is better


def correlations(groups: Sequence[Group], seed: int = 0) -> list[dict[str, Any]]:
  """A row a kind: Kendall's tau-b with its interval, and of how many methods and pairs it is.

  "methods" correlates the groups' means, "runs" all runs, and "seeds" is the mean over groups of
  tau inside the group. A tau is None where all values are the same.
  """
  groups = [group for group in groups if len(group.score)]
  methods = list(dict.fromkeys(group.method for group in groups))
  counts = np.random.default_rng(seed).multinomial(
    len(methods), [1 / max(1, len(methods))] * len(methods), size=RESAMPLES
  )
  drawn = counts[:, [methods.index(group.method) for group in groups]]  # how often each group is
  means = [[np.mean(group.flatness), np.mean(group.score)] for group in groups]
  pairs = [np.stack([group.flatness, group.score], axis=1) for group in groups]
  inside = np.array([tau(*group[1:]) for group in groups], np.float64)
  told = np.isfinite(inside)  # the others have one run, or runs that are all alike
  lengths = [len(group.score) for group in groups]
  resampled = {
    "methods": taus_of_resamples(np.reshape(means, (-1, 2)), drawn),
    "runs": taus_of_resamples(
      np.concatenate([*pairs, np.empty((0, 2))]), np.repeat(drawn, lengths, axis=1)
    ),
    "seeds": ratio(drawn[:, told] @ inside[told], np.sum(drawn[:, told], axis=1)),
  }
  found = {
    "methods": tau(*np.reshape(means, (-1, 2)).T),
    "runs": tau(*np.concatenate([*pairs, np.empty((0, 2))]).T),
    "seeds": float(np.mean(inside[told])) if told.any() else math.nan,
  }
  used = {"methods": len(groups), "runs": sum(lengths), "seeds": int(np.sum(told))}
  rows = []
  for kind in KINDS:
    low, high = interval(resampled[kind]) if len(methods) >= FEWEST_METHODS else (None, None)
    rows.append({"kind": kind, "tau": finite(found[kind]), "low": low, "high": high})
    rows[-1] |= {"n": used[kind], "methods": len(methods)}
  return rows


def tau(flatness: np.ndarray, score: np.ndarray) -> float:
  """Kendall's tau-b; NaN where either is constant, or of fewer than two pairs."""
  if len(score) < 2:
    return math.nan
  return float(scipy.stats.kendalltau(flatness, score).statistic)


def taus_of_resamples(pairs_Nx2: np.ndarray, counts_RxN: np.ndarray) -> np.ndarray:
  """Tau-b of the resamples that hold the n-th pair ``counts[r, n]`` times; NaN where undefined.

  Every resample is a weighting of the same comparisons between two pairs, which are made once.
  """
  signs_2xNxN = np.sign(pairs_Nx2.T[:, :, None] - pairs_Nx2.T[:, None, :])
  weigh = lambda matrix_NxN: np.sum((counts_RxN @ matrix_NxN) * counts_RxN, axis=1)
  agreeing, *different = weigh(np.prod(signs_2xNxN, axis=0)), *map(weigh, np.abs(signs_2xNxN))
  return ratio(agreeing, np.sqrt(np.prod(different, axis=0)))


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
  """NaN where ``below`` is 0."""
  return np.divide(above, below, out=np.full(len(below), math.nan), where=below > 0)


def interval(values: np.ndarray) -> tuple[float | None, float | None]:
  """Percentiles of the resamples in which the correlation is defined."""
  values = values[np.isfinite(values)]
  if not len(values):
    return None, None
  low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
  return float(low), float(high)
