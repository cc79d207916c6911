"""Class-incremental tasks, and the memory of earlier ones that experience replay draws from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data.arrays import Subset


def class_tasks(num_classes: int, num_tasks: int, seed: int) -> list[list[int]]:
  """The classes in an order that the seed decides, cut into equal tasks."""
  if num_tasks < 1 or num_classes % num_tasks:
    raise ValueError(f"class_tasks: num_tasks must divide {num_classes} classes; got {num_tasks}")
  order = np.random.default_rng((seed, 3)).permutation(num_classes)
  return order.reshape(num_tasks, -1).tolist()


def split_by_class(source: Any, tasks: Sequence[Sequence[int]]) -> list[Subset]:
  """One source a task, of the examples of its classes, in the order of ``source``."""
  labels = np.array([source[index]["label"] for index in range(len(source))])
  return [Subset(source, np.flatnonzero(np.isin(labels, classes))) for classes in tasks]


class Reservoir(NamedTuple):
  """A uniform sample of all examples added so far: a pytree of arrays, to be checkpointed."""

  examples: dict[str, np.ndarray]  # each with a leading axis of `capacity`
  seen: np.ndarray  # int64, how many were added


def empty_reservoir(example: dict[str, np.ndarray], capacity: int) -> Reservoir:
  """Room for ``capacity`` examples of this one's shapes and dtypes."""
  slots = {k: np.zeros((capacity, *np.shape(x)), np.asarray(x).dtype) for k, x in example.items()}
  return Reservoir(slots, np.int64(0))


def add(reservoir: Reservoir, batch: dict[str, np.ndarray], seed: int) -> Reservoir:
  """Adds a batch, example by example: the n-th stays with probability capacity / n.

  Vitter 1985 (doi 10.1145/3147.3165), algorithm R. What is drawn depends on the seed and on how
  many were seen, so a run that is resumed keeps what it would have kept.
  """
  capacity = len(next(iter(reservoir.examples.values())))
  count = len(next(iter(batch.values())))
  order = reservoir.seen + np.arange(count)
  drawn = np.random.default_rng((seed, 4, int(reservoir.seen))).integers(0, order + 1)
  slots = np.where(order < capacity, order, drawn)
  examples = {k: x.copy() for k, x in reservoir.examples.items()}
  for position in np.flatnonzero(slots < capacity):
    for name, values in examples.items():
      values[slots[position]] = batch[name][position]
  return Reservoir(examples, reservoir.seen + count)


def sample(reservoir: Reservoir, num: int, seed: int, step: int) -> dict[str, np.ndarray]:
  """``num`` of the examples held, with replacement; every step draws others."""
  held = min(int(reservoir.seen), len(next(iter(reservoir.examples.values()))))
  if held == 0:
    raise ValueError("sample: the reservoir is empty; add examples first")
  chosen = np.random.default_rng((seed, 5, step)).integers(0, held, num)
  return {k: x[chosen] for k, x in reservoir.examples.items()}
