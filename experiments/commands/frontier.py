"""What methods reach for the gradients that they pay."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console

from experiments.comparisons import frontier
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Frontier:
  """What methods reach for the gradients they pay, over several comparisons."""

  directories: tyro.conf.Positional[tuple[Path, ...]]
  out: Path  # holds the report
  reference: str = "sgd"  # that the others are compared with, at the best budget that costs no more
  keeps: str | None = None  # method whose gain the others may keep
  margin: float = 0.3  # how far behind it they may be, in the score's unit

  def run(self, console: Console) -> None:
    frontier.measure(
      self.directories, self.reference, self.out, keeps=self.keeps, margin=self.margin
    )
    directory.write(self.out, console)
