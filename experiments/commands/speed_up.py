"""Steps that methods save."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console

from experiments.comparisons import speed_up
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class SpeedUp:
  """Computes the steps that methods save, from comparisons of different --steps."""

  directories: tyro.conf.Positional[tuple[Path, ...]]
  out: Path  # directory of the report
  reference: str = "adamw"  # method that needs runs of at least two numbers of steps

  def run(self, console: Console) -> None:
    speed_up.measure(self.directories, self.reference, self.out)
    directory.write(self.out, console)
