"""Average accuracy and forgetting over tasks that are learned one after another."""

from collections.abc import Sequence

import numpy as np


def average_accuracy(accuracy: Sequence[Sequence[float]]) -> list[float]:
  """After each task the mean over the tasks so far; ``accuracy[t][j]`` is task j's after task t.

  Lopez-Paz and Ranzato 2017 (arXiv 1706.08840), section 2.
  """
  return [float(np.mean(row)) for row in accuracy]


def forgetting(accuracy: Sequence[Sequence[float]]) -> list[float]:
  """After each task but the first, how far the earlier ones are below their best until then.

      forgetting[t] = mean over j < t of (max over j <= l < t of accuracy[l][j]) - accuracy[t][j]

  Negative where the earlier tasks gained. Chaudhry et al. 2018 (arXiv 1801.10112), definition 3.
  """
  lost = lambda t, j: max(row[j] for row in accuracy[j:t]) - accuracy[t][j]
  return [float(np.mean([lost(t, j) for j in range(t)])) for t in range(1, len(accuracy))]
