"""Accuracy under weight noise."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.config import Inline
from experiments.measures import noise
from experiments.measures.noise import NoiseOptions
from experiments.reports import directory as reports


@dataclasses.dataclass(frozen=True)
class Noise:
  """Measures test accuracy under weight noise, of a run or a finished comparison."""

  directory: tyro.conf.Positional[Path]
  options: Annotated[NoiseOptions, Inline] = dataclasses.field(default_factory=NoiseOptions)

  def run(self, console: Console) -> None:
    noise.measure(self.directory, self.options, console)
    reports.write(self.directory, console)
