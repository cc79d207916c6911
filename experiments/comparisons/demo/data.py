"""The demo's digits as arrays that a compiled run holds whole, and the order of its batches."""

from typing import NamedTuple

import numpy as np

from experiments.data import arrays, mnist5k


class Digits(NamedTuple):
  images: np.ndarray  # float32 (N, 28, 28, 1)
  labels: np.ndarray  # int32 (N,)


def mnist_5k() -> Digits:
  digits = mnist5k.mnist_5k()
  return Digits(digits.images_NxHxWxC, digits.labels_N)


def split(digits: Digits, at: int) -> tuple[Digits, Digits]:
  first, second = zip(*((x[:at], x[at:]) for x in digits), strict=True)
  return Digits(*first), Digits(*second)


def with_wrong_labels(digits: Digits, share: float, seed: int) -> Digits:
  """Moves exactly this share of the labels to another class, drawn uniformly."""
  shift_N = arrays.label_shifts(len(digits.labels), share, mnist5k.CLASSES, seed)
  return digits._replace(labels=(digits.labels + shift_N) % mnist5k.CLASSES)


def batch_order(num_examples: int, batch_size: int, num_steps: int, seed: int) -> np.ndarray:
  """Indices order_SxB: a new permutation an epoch, its last incomplete batch left out."""
  rng = np.random.default_rng((seed, 2))
  steps = num_examples // batch_size
  epochs = [
    rng.permutation(num_examples)[: steps * batch_size].reshape(steps, batch_size)
    for _ in range(-(-num_steps // steps))
  ]
  return np.concatenate(epochs)[:num_steps].astype(np.int32)
