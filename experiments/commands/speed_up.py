"""Steps that methods save."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console

from experiments.comparisons import speed_up
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class SpeedUp:
  """Steps that methods save, from finished comparisons that differ in --steps."""

  directories: tyro.conf.Positional[tuple[Path, ...]]
  out: Path  # holds the report
  reference: str = "adamw"  # compared at two numbers of steps at least

  def run(self, console: Console) -> None:
    speed_up.measure(self.directories, self.reference, self.out)
    directory.write(self.out, console)
