"""Streams of batches, which can be read ahead of the position that a checkpoint saves.

Batches come stacked along a leading axis, as a dispatch of several steps takes them.
"""

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from experiments.config import Refusal

Batch = dict[str, Any]


class Stream(Protocol):
  """Endless batches; ``get_state`` is the position that a checkpoint keeps."""

  def ahead(self, offset: int, count: int) -> Batch:
    """Batches ``offset`` to ``offset + count - 1`` after the position, stacked, as NumPy arrays."""
    ...

  def advance(self, count: int) -> None:
    """Moves the position past batches that steps have used."""
    ...

  def get_state(self) -> dict[str, Any]: ...

  def set_state(self, state: dict[str, Any]) -> None: ...


class Gathered:
  """Batches gathered from arrays in memory by their indices, in a new permutation every epoch.

  ``transforms`` are Grain's, of batches; the seed and a batch's number decide their draws.
  """

  def __init__(self, source: Any, size: int, seed: int, transforms: Sequence[Any] = ()):
    self.source, self.size, self.seed, self.transforms = source, size, seed, transforms
    self.position = 0  # number of batches used
    self.permutation = functools.lru_cache(maxsize=2)(
      lambda epoch: np.random.default_rng((seed, 2, epoch)).permutation(len(source))
    )

  def num_bytes(self) -> int:
    """Of all examples."""
    example = self.source.take(np.arange(1))
    return len(self.source) * sum(x.nbytes for x in example.values())

  def ahead(self, offset: int, count: int) -> Batch:
    indices = self.indices(offset, count)
    if not self.transforms:
      return self.source.take(indices)
    first = self.position + offset
    batches = [self.augmented(self.source.take(row), first + i) for i, row in enumerate(indices)]
    return jax.tree.map(lambda *x: np.stack(x), *batches)

  def augmented(self, batch: Batch, number: int) -> Batch:
    rng = np.random.default_rng((self.seed, 5, number))
    for transform in self.transforms:
      batch = transform.random_map(batch, rng)
    return batch

  def indices(self, offset: int, count: int) -> np.ndarray:
    """Of n processes each takes every n-th example, so that together they take each batch."""
    first = (self.position + offset) * self.size
    stop, processes = first + count * self.size, jax.process_count()
    places = np.arange(first, stop).reshape(count, self.size)[:, jax.process_index() :: processes]
    epochs, within = np.divmod(places, len(self.source))
    indices = np.empty(places.shape, np.int32)
    for epoch in range(epochs.min(), epochs.max() + 1):
      in_epoch = epochs == epoch
      indices[in_epoch] = self.permutation(epoch)[within[in_epoch]]
    return indices

  def advance(self, count: int) -> None:
    self.position += count

  def get_state(self) -> dict[str, Any]:
    return {"batches": self.position}

  def set_state(self, state: dict[str, Any]) -> None:
    self.position = state["batches"]


class ReadAhead:
  """Batches of an iterator whose own position runs ahead of the steps."""

  def __init__(self, iterator: Any):
    self.iterator = iterator
    self.state = iterator.get_state()
    self.waiting: deque[tuple[Batch, dict[str, Any]]] = deque()  # with the positions behind them

  def ahead(self, offset: int, count: int) -> Batch:
    while len(self.waiting) < offset + count:
      self.waiting.append((next(self.iterator), self.iterator.get_state()))
    batches = [self.waiting[offset + i][0] for i in range(count)]
    return jax.tree.map(lambda *x: np.stack(x), *batches)

  def advance(self, count: int) -> None:
    for _ in range(count):
      _, self.state = self.waiting.popleft()

  def get_state(self) -> dict[str, Any]:
    return self.state

  def set_state(self, state: dict[str, Any]) -> None:
    self.waiting.clear()
    self.iterator.set_state(state)
    self.state = state


def set_position(stream: Stream, saved: dict[str, Any], directory: Path) -> None:
  """Moves ``stream`` to the position that the checkpoint of a run in ``directory`` holds."""
  try:
    stream.set_state(saved)
  except (LookupError, TypeError, ValueError) as error:
    raise Refusal(
      f"{directory} was begun by another version of experiments, whose position in the data this"
      " one cannot read: finish the run with that version, which config.json names, or delete it"
      " to train again"
    ) from error


def one_by_one(stream: Stream) -> Iterator[Batch]:
  """The batches of a stream, each without the axis that counts them."""
  while True:
    batch = jax.tree.map(lambda x: x[0], stream.ahead(0, 1))
    stream.advance(1)
    yield batch
