"""What methods reach for the gradients that they pay."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console

from experiments.comparisons import frontier
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Frontier:
  """What methods reach for the gradients they pay, in comparisons at equal steps."""

  directories: tyro.conf.Positional[tuple[Path, ...]]
  out: Path  # holds the report
  reference: str = "sgd"  # its shortest runs are what the others are compared with

  def run(self, console: Console) -> None:
    frontier.measure(self.directories, self.reference, self.out)
    directory.write(self.out, console)
