"""Every data set by name."""

from collections.abc import Callable

from experiments.config import DataSet
from experiments.config.registry import Registry

DATA_SETS: Registry[DataSet] = Registry("data set")


def register_data(name: str) -> Callable[[type[DataSet]], type[DataSet]]:
  """A decorator that adds a data set, with the options of its defaults."""

  def register(kind: type[DataSet]) -> type[DataSet]:
    DATA_SETS.add(name, kind())
    return kind

  return register
