"""The test loss with fewer bits a weight."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.config import Inline
from experiments.measures import quantisation
from experiments.measures.quantisation import QuantisationOptions
from experiments.reports import directory as reports


@dataclasses.dataclass(frozen=True)
class Quantise:
  """Test loss with 8 and 4 bits a weight, of a run or of a finished comparison."""

  directory: tyro.conf.Positional[Path]
  options: Annotated[QuantisationOptions, Inline] = dataclasses.field(
    default_factory=QuantisationOptions
  )

  def run(self, console: Console) -> None:
    quantisation.measure(self.directory, self.options, console)
    reports.write(self.directory, console)
