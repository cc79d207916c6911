"""Modules from elsewhere, which register methods, bases, models, data sets and configs."""

import importlib
from collections.abc import Sequence
from importlib.metadata import entry_points

from experiments.config import Refusal, reason

GROUP = "flatopt.experiments"  # of entry points, whose modules are imported at every start


def split_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """The modules that ``--import`` names, and the other arguments."""
  modules, others, remaining = [], [], iter(arguments)
  for argument in remaining:
    flag, _, name = argument.partition("=")
    if flag != "--import":
      others.append(argument)
      continue
    modules.append(name or next(remaining, ""))
    if not modules[-1]:
      raise Refusal("--import needs the name of a module")
  return modules, others


def import_plugins(modules: Sequence[str]) -> None:
  """Imports the modules of entry points, and ``modules``."""
  for entry in entry_points(group=GROUP):
    _import(entry.module, f"entry point {entry.name}")
  for module in modules:
    _import(module, "--import")


def _import(name: str, origin: str) -> None:
  try:
    importlib.import_module(name)
  except Refusal as error:
    raise Refusal(f"{origin} {name}: {error}") from error
  except Exception as error:
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    raise Refusal(f"{origin} {name}: {kind}{reason(error)}") from error
