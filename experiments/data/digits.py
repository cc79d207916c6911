"""scikit-learn's 1,797 digits of 8x8 pixels: the smallest set, for tests."""

import numpy as np
from sklearn.datasets import load_digits

from experiments.data.arrays import Images


def digits(split: str, train_examples: int = 1437) -> Images:
  """The first ``train_examples``, or the others, by other writers, as the test set."""
  images, labels = load_digits(return_X_y=True)
  part = slice(train_examples) if split == "train" else slice(train_examples, None)
  images = images[part].reshape(-1, 8, 8, 1).astype(np.float32)
  return Images((images - 8) / 8, labels[part].astype(np.int32))
