"""Means, standard errors, and what differences paired by seed are worth.

Pairs share what a seed draws, and what they share cancels in their difference. The test and the
interval ask how far the mean difference is from zero, given how it varies from seed to seed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.config.files import finite

MOST_EXACT = 16  # pairs, of whose signs all 2**16 choices are tried
DRAWS, SEED = 99_999, 0  # of random signs beyond that, and of bootstrap resamples
LEVEL = 0.05  # below which an adjusted p-value is called significant
ROUNDING = 1e-9  # relative: sums of the same numbers in another order count as equal


def mean_and_error(values) -> tuple[float | None, float | None]:
  """The mean and its standard error; one value alone has none."""
  values = np.asarray(values, np.float64)
  error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
  return finite(np.mean(values)), finite(error)


def paired_difference(values, reference) -> tuple[float | None, float | None]:
  """Mean and standard error of the differences, seed by seed: what seeds share cancels."""
  return mean_and_error(differences(values, reference))


def differences(values, reference) -> np.ndarray:
  """Seed by seed; NaN where either is None, which is how a run that diverged is kept."""
  return np.asarray(values, np.float64) - np.asarray(reference, np.float64)


def sign_flip_p(differences) -> float | None:
  """The two-sided p-value of "the mean is zero" by flipping signs; None for fewer than two pairs.

      p = share of the 2**n choices of signs s with |sum s d| >= |sum d|

  Were both of a pair alike, either sign of its difference would be as likely, whatever its
  distribution. Exact for up to 16 pairs. Beyond, 99,999 choices of signs are drawn with seed 0, and
  the signs that were seen count as one more draw. None too where a difference is not finite.
  """
  found = _pairs(differences)
  if found is None:
    return None
  as_far = lambda sums, seen: np.abs(sums) >= (1 - ROUNDING) * abs(seen)
  return _share_of_flips(found, as_far)


def _share_of_flips(found: np.ndarray, as_far: Callable) -> float:
  """The share of choices of signs whose sum is as far as the one that was seen."""
  n, seen = len(found), np.sum(found)
  count = lambda flips_SxN: np.count_nonzero(as_far((1 - 2.0 * flips_SxN) @ found, seen))
  if n <= MOST_EXACT:
    return count((np.arange(2**n)[:, None] >> np.arange(n)) & 1) / 2**n
  drawn = np.random.default_rng(SEED).integers(0, 2, (DRAWS, n), dtype=np.int8)
  return (1 + count(drawn)) / (1 + DRAWS)


def not_worse_p(differences, margin: float) -> float | None:
  """The one-sided p-value of "the mean is ``margin`` below zero, or lower", by flipping signs.

      p = share of the choices of signs s with sum s (d + margin) >= sum (d + margin)

  Small where the mean is above ``-margin`` beyond doubt, which the absence of a difference is not.
  Signs are tried or drawn as in ``sign_flip_p``; None where that has none.
  """
  found = _pairs(differences)
  if found is None:
    return None
  return _share_of_flips(found + margin, lambda sums, seen: sums >= seen - ROUNDING * abs(seen))


def bootstrap_interval(differences) -> tuple[float, float] | None:
  """The 95 % percentile bootstrap interval of the mean; None for fewer than two pairs.

  From 99,999 resamples, drawn with seed 0. With a few pairs it is too narrow, as they vary less
  than what they were drawn from. None too where a difference is not finite.
  """
  found = _pairs(differences)
  if found is None:
    return None
  rng = np.random.default_rng(SEED)
  # In batches, or a hundred pairs would take 80 MB.
  interval = stats.bootstrap(
    (found,), np.mean, n_resamples=DRAWS, batch=10_000, method="percentile", rng=rng
  ).confidence_interval
  return float(interval.low), float(interval.high)


def _pairs(differences) -> np.ndarray | None:
  found = np.asarray(differences, np.float64)
  return found if len(found) > 1 and np.all(np.isfinite(found)) else None


def holm(p_values: Iterable[float | None]) -> list[float | None]:
  """Step-down adjusted p-values, in the order given; None stay None and do not count.

      adjusted[i-th smallest of m] = max over j <= i of min(1, (m - j + 1) p[j-th smallest])

  Calling significant what is at most 0.05 then errs in any of the m with a chance of 5 % at most,
  however they depend on each other. Holm 1979, "A simple sequentially rejective multiple test
  procedure".
  """
  adjusted = list(p_values)
  known = sorted((p, i) for i, p in enumerate(adjusted) if p is not None)
  so_far = 0.0
  for smaller, (p, i) in enumerate(known):
    so_far = max(so_far, min(1.0, (len(known) - smaller) * p))
    adjusted[i] = so_far
  return adjusted


def error_over_examples(scores_SxN, reference_SxN) -> float | None:
  """The standard error that a difference has because the test set is a sample.

      error = std over examples of (mean over seeds of (score - reference's score)) / sqrt(N)

  More seeds lower the error over seeds, and leave this one as it is. It takes the examples as drawn
  independently, which windows of one document are not. None where a run's scores are missing or
  not finite.
  """
  if any(scores is None for scores in (*scores_SxN, *reference_SxN)):
    return None
  means_N = np.mean(np.subtract(scores_SxN, reference_SxN, dtype=np.float64), axis=0)
  return mean_and_error(means_N)[1]


def least_p(n: int, comparisons: int) -> float:
  """The smallest adjusted p-value that ``n`` pairs can have: 2 of 2**n choices of signs."""
  return min(1.0, comparisons * 2 / 2**n)


def compared(values, reference) -> dict[str, float | None]:
  """A row's mean difference, its standard error, its 95 % interval and its p-value."""
  found = differences(values, reference)
  mean, error = mean_and_error(found)
  low, high = bootstrap_interval(found) or (None, None)
  return {
    "difference": mean,
    "difference_error": error,
    "difference_low": low,
    "difference_high": high,
    "p": sign_flip_p(found),
  }


def untested(row: dict[str, Any]) -> dict[str, Any]:
  """The row of the reference itself, whose difference is zero by definition."""
  return row | dict.fromkeys(("difference_low", "difference_high", "p"))


def add_holm(rows: Sequence[dict[str, Any]]) -> None:
  """Adds "p_holm" to rows, each of which is one comparison unless its "p" is None."""
  for row, p in zip(rows, holm(row["p"] for row in rows), strict=True):
    row["p_holm"] = p
