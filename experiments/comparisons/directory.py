"""The directory of a comparison: its settings in compare.json, and its runs."""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import config as configuration
from experiments.comparisons.sharing import Job, one_at_a_time
from experiments.config import Config, Refusal, files
from experiments.training import batches, loop, wandb_run
from experiments.training.step import make_program


def with_training(config: Config, **changes) -> Config:
  return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


class Runs:
  """The runs in subdirectories of ``out``."""

  def __init__(self, out: Path, console: Console):
    self.out, self.console = out, console
    self.summaries: dict[tuple[str, ...], dict[str, Any]] = {}  # of finished runs that were read

  def finished(self, *path: str) -> bool:
    return path in self.summaries or (self.out.joinpath(*path) / "summary.json").exists()

  def count(self, pattern: str) -> int:
    """The number of finished runs in the directories that match."""
    return sum(1 for _ in self.out.glob(f"{pattern}/summary.json"))

  def train(self, config: Config, *path: str) -> dict[str, Any]:
    """Trains a run and returns its summary; a finished run is only read."""
    if path not in self.summaries:
      self.summaries[path] = loop.train(config, self.out.joinpath(*path), self.console)
    return self.summaries[path]

  def job(self, config: Config, *path: str) -> Job:
    return Job(path, functools.partial(self.train, config, *path))


def check(by_method: dict[str, Config]) -> None:
  """Builds every run's program, so that a config is refused before anything is written."""
  first, *others = by_method.values()
  batches.training_source(first)
  example = batches.evaluation_source(first)[0]
  for config in (first, *others):
    wandb_run.check(config)
    make_program(config, example)


def claim(out: Path, comparison: Any) -> None:
  """Writes compare.json, or refuses a directory that holds another comparison."""
  with one_at_a_time(out):
    _claim(out / "compare.json", comparison)


def _claim(path: Path, comparison: Any) -> None:
  spec = to_json(comparison)
  if not path.exists():
    files.write_json(path, spec | {"versions": files.versions()})
    return
  existing = files.read_json(path)
  existing.pop("versions", None)
  with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
    # An older compare.json gets the defaults of newer fields; one that cannot is compared as it is.
    fields = {name: configuration.from_dict(value) for name, value in existing.items()}
    existing = to_json(type(comparison)(**fields))
  if lines := configuration.differences(_by_flag(existing), _by_flag(spec)):
    raise Refusal(
      f"{path.parent} holds another comparison, so name another --out: {', '.join(lines)}"
    )


def _by_flag(spec: dict[str, Any]) -> dict[str, Any]:
  """The budget under its unit's name, as in --gradients 150."""
  spec = dict(spec)
  if {"unit", "amount"} <= spec.keys():
    spec[spec.pop("unit")] = spec.pop("amount")
  return spec


def to_json(comparison: Any) -> dict[str, Any]:
  fields = {f.name: getattr(comparison, f.name) for f in dataclasses.fields(comparison)}
  return {name: configuration.to_dict(value) for name, value in fields.items()}
