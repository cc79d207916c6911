"""Modules from elsewhere, which register methods, bases, models, data sets and configs."""

import importlib
from collections.abc import Sequence
from importlib.metadata import entry_points

from experiments.config import Refusal, reason

GROUP = "flatopt.experiments"  # of entry points, whose modules are imported at every start


def import_additions(arguments: Sequence[str]) -> list[str]:
  """Imports the modules of entry points and of every ``--import``; returns the other arguments."""
  for entry in entry_points(group=GROUP):
    _import(entry.module, f"entry point {entry.name}")
  others, remaining = [], iter(arguments)
  for argument in remaining:
    flag, _, name = argument.partition("=")
    if flag != "--import":
      others.append(argument)
      continue
    name = name or next(remaining, "")
    if not name:
      raise Refusal("--import needs the name of a module")
    _import(name, "--import")
  return others


def _import(name: str, origin: str) -> None:
  try:
    importlib.import_module(name)
  except Refusal as error:
    raise Refusal(f"{origin} {name}: {error}") from error
  except Exception as error:
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    raise Refusal(f"{origin} {name}: {kind}{reason(error)}") from error
