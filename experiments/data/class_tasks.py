"""Class-incremental tasks, and the memory of earlier ones that experience replay draws from."""

from collections.abc import Sequence

import numpy as np


def class_tasks(num_classes: int, num_tasks: int, seed: int) -> list[list[int]]:
  """The classes in an order that the seed decides, cut into equal tasks."""
  if num_tasks < 1 or num_classes % num_tasks:
    raise ValueError(f"class_tasks: num_tasks must divide {num_classes} classes; got {num_tasks}")
  order = np.random.default_rng((seed, 3)).permutation(num_classes)
  return order.reshape(num_tasks, -1).tolist()


def labels_of(source: Sequence) -> np.ndarray:
  return np.array([source[index]["label"] for index in range(len(source))])


def memory(labels_N: np.ndarray, classes: Sequence[int], size: int, seed: int) -> np.ndarray:
  """Indices of ``size`` examples of ``classes``, or of all where there are fewer.

  They are the first in an order of all examples that the seed decides: a uniform sample, which
  holds of further classes only what it held before or what they brought, as a reservoir does.
  """
  order = np.random.default_rng((seed, 4)).permutation(len(labels_N))
  return order[np.isin(labels_N[order], classes)][:size]


def training_indices(
  labels_N: np.ndarray, tasks: Sequence[Sequence[int]], task: int, replay: int, seed: int
) -> np.ndarray:
  """The examples of a task, then as many draws from a memory of ``replay`` earlier ones.

  Both halves hold each of their examples equally often, or once more.
  """
  own = np.flatnonzero(np.isin(labels_N, tasks[task]))
  earlier = [label for classes in tasks[:task] for label in classes]
  held = memory(labels_N, earlier, replay, seed)
  if not len(held):
    return own
  size = max(len(own), len(held))
  return np.concatenate([np.resize(own, size), np.resize(held, size)])
