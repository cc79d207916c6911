"""scikit-learn's 1,797 digits of 8x8 pixels: the smallest set, for tests."""

import numpy as np
from sklearn.datasets import load_digits

from experiments.data.arrays import Images, first_or_others


def digits(split: str, train_examples: int = 1437) -> Images:
  """The first ``train_examples``, or the others, by other writers, as the test set."""
  images, labels = load_digits(return_X_y=True)
  images = images.reshape(-1, 8, 8, 1).astype(np.float32)
  whole = Images((images - 8) / 8, labels.astype(np.int32))
  return first_or_others(whole, split, train_examples)
