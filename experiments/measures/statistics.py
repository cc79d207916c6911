"""Means, standard errors, paired differences."""

import math

import numpy as np

from experiments.config.files import finite


def mean_and_error(values) -> tuple[float | None, float | None]:
  """The mean and its standard error; one value alone has none."""
  values = np.asarray(values, np.float64)
  error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
  return finite(np.mean(values)), finite(error)


def paired_difference(values, reference) -> tuple[float | None, float | None]:
  """Mean and standard error of the differences, seed by seed: what seeds share cancels."""
  return mean_and_error(np.asarray(values, np.float64) - np.asarray(reference, np.float64))
