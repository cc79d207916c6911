"""The sharpness of the loss around a saved run's params."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.config import Inline
from experiments.measures import sharpness
from experiments.measures.sharpness import SharpnessOptions
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Sharpness:
  """Measures how sharp the training loss is around a saved run's params."""

  run_dir: tyro.conf.Positional[Path]
  options: Annotated[SharpnessOptions, Inline] = dataclasses.field(default_factory=SharpnessOptions)

  def run(self, console: Console) -> None:
    sharpness.measure(self.run_dir, self.options, console)
    directory.write(self.run_dir, console)
