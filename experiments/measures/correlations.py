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
TAU = "tau", "low", "high"  # a row's keys of a correlation and its interval
SPEARMAN = "spearman", "spearman_low", "spearman_high"
RESAMPLES = 4000
LEVEL = 0.95
FEWEST_METHODS = 3  # of which intervals are made


class Group(NamedTuple):
  """The runs of a method in one comparison; other comparisons may hold the method too."""

  method: str
  flatness: np.ndarray
  score: np.ndarray  # more is better


def correlations(groups: Sequence[Group], seed: int = 0) -> list[dict[str, Any]]:
  """A row a kind: Kendall's tau-b and Spearman's rho, their intervals, and how many pairs they are of.

  "methods" correlates the groups' means, "runs" all runs, and "seeds" is the mean over groups of
  the correlation inside the group. A correlation is None where all values are the same.
  """
  groups = [group for group in groups if len(group.score)]
  methods = list(dict.fromkeys(group.method for group in groups))
  counts = np.random.default_rng(seed).multinomial(
    len(methods), [1 / max(1, len(methods))] * len(methods), size=RESAMPLES
  )
  drawn = counts[:, [methods.index(group.method) for group in groups]]  # how often each group is
  pairs = [np.stack([group.flatness, group.score], axis=1) for group in groups]
  means = np.reshape([np.mean(each, axis=0) for each in pairs], (-1, 2))
  every = np.concatenate([*pairs, np.empty((0, 2))])
  repeats = np.repeat(drawn, [len(each) for each in pairs], axis=1)
  # The others have one run, or runs that are all alike.
  varied = np.array([np.all(np.ptp(each, axis=0) > 0) for each in pairs], bool)
  used = {"methods": len(groups), "runs": len(every), "seeds": int(np.sum(varied))}
  rows = {kind: {"kind": kind} for kind in KINDS}
  for (name, low_name, high_name), of_pairs, of_resamples in (
    (TAU, tau, taus_of_resamples),
    (SPEARMAN, spearman, spearmans_of_resamples),
  ):
    inside = np.array([of_pairs(*each.T) for each, v in zip(pairs, varied, strict=True) if v])
    seen_and_resampled = {
      "methods": (of_pairs(*means.T), of_resamples(means, drawn)),
      "runs": (of_pairs(*every.T), of_resamples(every, repeats)),
      "seeds": (
        float(np.mean(inside)) if len(inside) else math.nan,
        ratio(drawn[:, varied] @ inside, np.sum(drawn[:, varied], axis=1)),
      ),
    }
    for kind, (seen, resampled) in seen_and_resampled.items():
      low, high = interval(resampled) if len(methods) >= FEWEST_METHODS else (None, None)
      rows[kind] |= {name: finite(seen), low_name: low, high_name: high}
  return [row | {"n": used[kind], "methods": len(methods)} for kind, row in rows.items()]


def tau(flatness: np.ndarray, score: np.ndarray) -> float:
  """Kendall's tau-b; NaN where either is constant, or of fewer than two pairs."""
  if len(score) < 2:
    return math.nan
  return float(scipy.stats.kendalltau(flatness, score).statistic)


def spearman(flatness: np.ndarray, score: np.ndarray) -> float:
  """Spearman's rho; NaN where either is constant, or of fewer than two pairs."""
  if len(score) < 2 or not np.ptp(flatness) or not np.ptp(score):
    return math.nan
  return float(scipy.stats.spearmanr(flatness, score).statistic)


def spearman_by_chance(n: int) -> float:
  """What Spearman's rho of ``n`` independent pairs exceeds by chance in 5 % of cases, in size.

      bound = t / sqrt(n - 2 + t**2)

  where t is the 97.5 % quantile of Student's distribution with n - 2 degrees of freedom.
  """
  t = scipy.stats.t.ppf(0.975, n - 2)
  return float(t / math.sqrt(n - 2 + t**2))


def taus_of_resamples(pairs_Nx2: np.ndarray, counts_RxN: np.ndarray) -> np.ndarray:
  """Tau-b of the resamples that hold the n-th pair ``counts[r, n]`` times; NaN where undefined.

  Every resample is a weighting of the same comparisons between two pairs, which are made once.
  """
  signs_2xNxN = np.sign(pairs_Nx2.T[:, :, None] - pairs_Nx2.T[:, None, :])
  weigh = lambda matrix_NxN: np.sum((counts_RxN @ matrix_NxN) * counts_RxN, axis=1)
  agreeing, *different = weigh(np.prod(signs_2xNxN, axis=0)), *map(weigh, np.abs(signs_2xNxN))
  return ratio(agreeing, np.sqrt(np.prod(different, axis=0)))


def spearmans_of_resamples(pairs_Nx2: np.ndarray, counts_RxN: np.ndarray) -> np.ndarray:
  """Rho of the resamples that hold the n-th pair ``counts[r, n]`` times; NaN where undefined.

  A rank counts those below and half of its ties, so that the mean rank is half of all.
  """
  half_R = np.sum(counts_RxN, axis=1) / 2

  def ranks_from_their_mean(values_N):
    below_NxN = (values_N[:, None] < values_N) + 0.5 * (values_N[:, None] == values_N)
    return counts_RxN @ below_NxN - half_R[:, None]

  flat_RxN, score_RxN = map(ranks_from_their_mean, pairs_Nx2.T)
  summed = lambda products_RxN: np.sum(counts_RxN * products_RxN, axis=1)
  scale = np.sqrt(summed(flat_RxN**2) * summed(score_RxN**2))
  return ratio(summed(flat_RxN * score_RxN), scale)


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
