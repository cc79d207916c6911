"""Whether flatter runs are better runs."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.comparisons import correlations
from experiments.config import Inline
from experiments.measures.flatness import FlatnessOptions
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Correlate:
  """Which measures of flatness rank finished runs as the test set does.

  A comparison that has no flatness.json is measured first, by the options.
  """

  directories: tyro.conf.Positional[tuple[Path, ...]]
  out: Path  # holds the report
  options: Annotated[FlatnessOptions, Inline] = dataclasses.field(default_factory=FlatnessOptions)

  def run(self, console: Console) -> None:
    correlations.measure(self.directories, self.options, self.out, console)
    directory.write(self.out, console)
