"""Parts of a config: frozen dataclasses, to JSON and back by their names."""

import dataclasses
from typing import Any, ClassVar, get_type_hints

import tyro

from experiments.config.refusal import Refusal

# Flags of a chosen part have no name of its own in them: --opt.rho, not --opt.method.rho.
Inline = tyro.conf.arg(name="")


class Part:
  """Dataclasses of a config, which run directories name and ``from_dict`` finds by their names."""

  types: ClassVar[dict[str, type]] = {}

  def __init_subclass__(cls):
    if Part.types.setdefault(cls.__name__, cls).__module__ != cls.__module__:
      raise TypeError(f"two parts of a config are called {cls.__name__}")


def to_dict(part: Any) -> Any:
  """A config as plain values, with the type's name in every dataclass."""
  if isinstance(part, Part):
    fields = {f.name: to_dict(getattr(part, f.name)) for f in dataclasses.fields(part)}
    return {"type": type(part).__name__} | fields
  return [to_dict(x) for x in part] if isinstance(part, tuple) else part


def from_dict(value: Any) -> Any:
  """The inverse of ``to_dict``."""
  if isinstance(value, dict):
    fields = {name: from_dict(x) for name, x in value.items() if name != "type"}
    kind = Part.types.get(str(value["type"]))
    if kind is None:
      where = f"{value.path}: " if hasattr(value, "path") else ""  # of the file that it is from
      raise Refusal(
        f"{where}{value['type']} is not registered: --import the module that registers it"
      )
    return checked(kind, fields)
  return tuple(map(from_dict, value)) if isinstance(value, list) else value


def checked(kind: type, fields: dict[str, Any]) -> Any:
  """``kind(**fields)``, unless a value is of another type than its field's."""
  import typeguard  # a seventh of a second, which only readers of files should wait

  hints = get_type_hints(kind)
  for name, value in fields.items():
    try:
      typeguard.check_type(value, hints.get(name, Any))
    except typeguard.TypeCheckError as error:
      raise TypeError(f"{name} of {kind.__name__} {error}") from error
  return kind(**fields)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
  """ "--opt.rho is 0.05 there, 0.1 here", where two results of ``to_dict`` differ."""
  if isinstance(one, dict) and isinstance(other, dict):
    names = list(one) + [name for name in other if name not in one]
    return [
      line
      for name in names
      for line in differences(one.get(name), other.get(name), f"{path}.{name}".lstrip("."))
    ]
  return [] if one == other else [f"{flag_of(path)} is {one} there, {other} here"]


def flag_of(path: str) -> str:
  """--opt.rho of config.opt.method.rho, and --method of its type."""
  names = [name for name in path.split(".") if name != "config"]
  if names[-1] == "type":
    return f"--{names[-2].replace('set', 'data')}"
  return "--" + ".".join(name for name in names if name not in ("method", "base", "set"))
