"""The directory of a comparison: what it holds, and the runs below it."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import config as configuration
from experiments.config import Config, Refusal, files
from experiments.training import batches, loop
from experiments.training.step import make_program


def with_training(config: Config, **changes) -> Config:
  return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


class Runs:
  """Runs below one directory, counted for the reader."""

  def __init__(self, out: Path, total: int, console: Console):
    self.out, self.total, self.console = out, total, console
    self.done = 0

  def train(self, config: Config, *path: str) -> dict[str, Any]:
    self.done += 1
    self.console.print(f"run {self.done} of {self.total}: {' '.join(path)}")
    return loop.train(config, self.out.joinpath(*path), self.console)


def check(by_method: dict[str, Config]) -> None:
  """Refuses, before anything is written, what a run of one of these would be refused for."""
  first, *others = by_method.values()
  batches.training_source(first)
  example = batches.evaluation_source(first)[0]
  for config in (first, *others):
    make_program(config, example)


def claim(out: Path, comparison: Any) -> None:
  """Makes ``out`` this comparison's own, a dataclass of all that its runs depend on."""
  path, spec = out / "compare.json", to_json(comparison)
  if not path.exists():
    files.write_json(path, spec | {"versions": files.versions()})
    return
  found = files.read_json(path)
  found.pop("versions", None)
  with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
    # With the defaults of fields that came later; what is another kind stays as it was read.
    fields = {name: configuration.from_dict(value) for name, value in found.items()}
    found = to_json(type(comparison)(**fields))
  if lines := configuration.differences(found, spec):
    raise Refusal(f"{out} holds another comparison: {', '.join(lines)}")


def to_json(comparison: Any) -> dict[str, Any]:
  fields = {f.name: getattr(comparison, f.name) for f in dataclasses.fields(comparison)}
  return {name: configuration.to_dict(value) for name, value in fields.items()}
