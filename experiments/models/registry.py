"""Every model by name."""

from collections.abc import Callable

from experiments.config import Model
from experiments.config.registry import Registry

MODELS: Registry[Model] = Registry("model")


def register_model(name: str) -> Callable[[type[Model]], type[Model]]:
  """A decorator that adds a model, in the shape of its defaults."""

  def register(kind: type[Model]) -> type[Model]:
    MODELS.add(name, kind())
    return kind

  return register
