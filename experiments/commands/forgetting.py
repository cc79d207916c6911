"""What pre-trained models keep for what they learn."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console

from experiments.comparisons import forgetting
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Forgetting:
  """What is kept of the old corpus at equal losses on the new one."""

  directories: tyro.conf.Positional[tuple[Path, ...]]  # of fine-tune
  out: Path  # holds the report
  reference: str = "adamw"  # each method is compared with the strongest run of it that is as cheap

  def run(self, console: Console) -> None:
    forgetting.measure(self.directories, self.reference, self.out)
    directory.write(self.out, console)
