"""Every method and every base optimizer by name."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from experiments.config import Base, Method, Opt, Refusal
from experiments.config.registry import Registry, unknown

Place = Literal["base", "before the base", "after the base", "around the base"]


class MethodEntry(NamedTuple):
  config: type[Method]
  place: Place  # relative to the base optimizer
  colours: tuple[str, str] | None  # on light and on dark ground; None takes the colour of the place


class BaseEntry(NamedTuple):
  """A base optimizer, and the settings of a config that is moved to it from another base."""

  config: type[Base]
  learning_rate: float
  weight_decay: float


METHODS: Registry[MethodEntry] = Registry("method")
BASES: Registry[BaseEntry] = Registry("base")


@dataclasses.dataclass(frozen=True)
class Plain(Method):
  """The base optimizer alone, which is called by the base's name."""

  def wrap(self, base, steps, key):
    return base


def register_method(
  name: str,
  *,
  place: Place,
  colours: tuple[str, str] | None = None,
  aliases: Iterable[str] = (),
) -> Callable[[type[Method]], type[Method]]:
  """A decorator that adds a method."""

  def register(kind: type[Method]) -> type[Method]:
    if name in BASES:
      raise ValueError(f"a base is called {name} already")
    METHODS.add(name, MethodEntry(kind, place, colours), aliases)
    return kind

  return register


def register_base(
  name: str, *, learning_rate: float, weight_decay: float
) -> Callable[[type[Base]], type[Base]]:
  """A decorator that adds a base optimizer."""

  def register(kind: type[Base]) -> type[Base]:
    BASES.add(name, BaseEntry(kind, learning_rate, weight_decay))
    return kind

  return register


def methods_on(base: Base) -> dict[str, type[Method]]:
  """Every method by name, the base alone first."""
  return {base_name(base): Plain} | {name: entry.config for name, entry in METHODS.items()}


def find_method(base: Base, name: str) -> type[Method]:
  methods, current = methods_on(base), METHODS.current_name(name)
  if current in methods:
    return methods[current]
  if current in BASES:
    raise Refusal(f"{name} is a base optimizer: --base {name} puts it below all methods")
  raise Refusal(unknown("method", name, methods))


def method_name(opt: Opt) -> str:
  names = {kind: name for name, kind in methods_on(opt.base).items()}
  if type(opt.method) not in names:
    raise Refusal(
      f"{type(opt.method).__name__} has no name: put @register_method(name, place=...) above it"
    )
  return names[type(opt.method)]


def base_name(base: Base) -> str:
  for name, entry in BASES.items():
    if type(base) is entry.config:
      return name
  raise Refusal(
    f"{type(base).__name__} has no name: put @register_base(name, learning_rate=...,"
    " weight_decay=...) above it"
  )


def place_and_colours(method: str) -> tuple[Place, tuple[str, str] | None]:
  """Place and colours of a method, given by its name with or without settings."""
  name = METHODS.current_name(method.partition(":")[0])
  if name in BASES:
    return "base", None
  entry = METHODS.find(name)
  return entry.place, entry.colours
