"""The smallest comparison."""

import dataclasses
import os
import sys
from pathlib import Path

from rich.console import Console

from experiments import presets
from experiments.comparisons import equal_budgets
from experiments.comparisons.directory import with_training
from experiments.comparisons.flatness import measure_all
from experiments.comparisons.sharing import beside_helpers, one_at_a_time
from experiments.measures.flatness import FlatnessOptions
from experiments.presets.demo import CHOSEN
from experiments.reports import directory

PICTURED = "sgd", "sam", "ire_rho"  # methods whose landscapes are drawn


@dataclasses.dataclass(frozen=True)
class Demo:
  """Eleven methods on digits with wrong labels: what `make demo` runs."""

  out: Path = Path("runs/demo")
  gradients: int = presets.CONFIGS["demo"].training.budget  # budget of every run
  seeds: int = 3
  processes: int = min(4, os.cpu_count() or 1)  # number of processes that share the runs

  def run(self, console: Console) -> None:
    # A run is over in seconds: the checkpoint at its end is enough.
    config = with_training(presets.CONFIGS["demo"], checkpoint_every=self.gradients)
    compared = equal_budgets.Comparison(
      config, tuple(CHOSEN), self.seeds, "gradients", self.gradients
    )
    with beside_helpers(sys.argv[1:], self.processes):
      equal_budgets.compare(compared, self.out, console)
      measure_all(self.out, FlatnessOptions(pictured=PICTURED), console)
    if self.processes:
      with one_at_a_time(self.out):
        directory.write(self.out, console)
