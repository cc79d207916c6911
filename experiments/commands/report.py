"""Reports from files alone."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console

from experiments.reports import directory as reports


@dataclasses.dataclass(frozen=True)
class Report:
  """Draws the tables and figures of a run or a comparison again, from its files."""

  directory: tyro.conf.Positional[Path]

  def run(self, console: Console) -> None:
    reports.write(self.directory, console)
