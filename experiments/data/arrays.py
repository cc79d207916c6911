"""Sources over arrays in memory, and parts of a source, and label noise."""

from collections.abc import Sequence

import numpy as np


class Images:
  """Images and labels by index; ``classes`` where their file tells how many there are."""

  def __init__(self, images_NxHxWxC: np.ndarray, labels_N: np.ndarray, classes: int | None = None):
    self.images_NxHxWxC, self.labels_N, self.classes = images_NxHxWxC, labels_N, classes

  def __len__(self):
    return len(self.labels_N)

  def __getitem__(self, index):
    return {"image": self.images_NxHxWxC[index], "label": self.labels_N[index]}

  def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Examples side by side, with the axes of ``indices`` in front."""
    return self[indices]


def in_memory(source: Sequence) -> bool:
  """Whether ``take`` gathers from arrays, rather than one example after another."""
  inner = getattr(source, "source", None)
  return hasattr(source, "take") and (inner is None or in_memory(inner))


def first_or_others(whole: Images, split: str, train_examples: int) -> Images:
  """A set without published splits: its first examples to train on, the others to test on."""
  if not 0 < train_examples < len(whole):
    raise ValueError(
      f"data.train_examples must be from 1 to {len(whole) - 1}; got {train_examples}"
    )
  part = slice(train_examples) if split == "train" else slice(train_examples, None)
  return Images(whole.images_NxHxWxC[part], whole.labels_N[part])


class Subset:
  """The examples of a source at ``indices``."""

  def __init__(self, source: Sequence, indices: np.ndarray):
    self.source, self.indices = source, indices

  def __len__(self):
    return len(self.indices)

  def __getitem__(self, index):
    return self.source[int(self.indices[index])]

  def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    return self.source.take(self.indices[indices])


class WrongLabels:
  """Moves exactly this share of a source's labels to another class, drawn uniformly."""

  def __init__(self, source: Sequence, share: float, classes: int, seed: int):
    self.source, self.classes = source, classes
    self.shift_N = label_shifts(len(source), share, classes, seed)

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    example = self.source[index]
    return example | {"label": (example["label"] + self.shift_N[index]) % self.classes}

  def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
    examples = self.source.take(indices)
    return examples | {"label": (examples["label"] + self.shift_N[indices]) % self.classes}


def label_shifts(size: int, share: float, classes: int, seed: int) -> np.ndarray:
  """By how many classes each label moves: 0 for those that stay."""
  rng = np.random.default_rng((seed, 1))
  chosen = rng.permutation(size)[: round(share * size)]
  shift_N = np.zeros(size, np.int32)
  shift_N[chosen] = rng.integers(1, classes, len(chosen), dtype=np.int32)
  return shift_N
