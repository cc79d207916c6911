"""Modules from elsewhere, which register methods, bases, models, data sets and configs."""

import importlib
from collections.abc import Sequence
from importlib.metadata import entry_points

from experiments.config import Refusal, reason

GROUP = "flatopt.experiments"  # of entry points, whose modules are imported at every start


def import_additions(arguments: Sequence[str]) -> list[str]:
  """Imports the modules of entry points and of every ``--import``; returns what is left."""
  for entry in entry_points(group=GROUP):
    _import(entry.module, f"entry point {entry.name}")
  left, rest = [], iter(arguments)
  for argument in rest:
    flag, _, name = argument.partition("=")
    if flag != "--import":
      left.append(argument)
      continue
    name = name or next(rest, "")
    if not name:
      raise Refusal("--import wants the name of a module")
    _import(name, "--import")
  return left


def _import(name: str, said: str) -> None:
  try:
    importlib.import_module(name)
  except Refusal as error:
    raise Refusal(f"{said} {name}: {error}") from error
  except Exception as error:
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    raise Refusal(f"{said} {name}: {kind}{reason(error)}") from error
