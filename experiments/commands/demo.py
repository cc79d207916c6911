"""The smallest comparison."""

import dataclasses
from pathlib import Path

from rich.console import Console

from experiments import presets
from experiments.comparisons.demo import comparison
from experiments.comparisons.demo.config import COMPARED, Config
from experiments.presets.demo import CHOSEN
from experiments.reports import demo as report


@dataclasses.dataclass(frozen=True)
class Demo:
  """Eleven methods on digits with wrong labels: what `make demo` runs."""

  out: Path = Path("runs/demo")
  gradients: int = presets.CONFIGS["demo"].training.budget  # of every run
  seconds: float = 260  # about how long it may take

  def run(self, console: Console) -> None:
    config = Config(methods={m: CHOSEN[m] for m in COMPARED}, gradients=self.gradients)
    comparison.compare(config, self.out, self.seconds, console)
    report.write(self.out, console)
