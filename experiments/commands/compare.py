"""Methods times seeds at an equal budget."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console

from experiments.comparisons import equal_budgets
from experiments.comparisons.sharing import beside_helpers, one_at_a_time
from experiments.comparisons.tuning import FIRST_SEED, UNTUNED, Grid
from experiments.config import Config, Inline, Refusal
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Compare:
  """Trains methods with several seeds at an equal budget, or continues to."""

  config: Annotated[Config, Inline]
  out: Path  # directory of the runs and the report
  methods: tuple[str, ...]  # by name; the others are compared with the first
  seeds: int = 3
  base: str | None = None  # base optimizer in place of the config's, such as adamw:b2=0.99
  model: str | None = None  # model in place of the config's; `list models` shows all
  data: str | None = None  # data set in place of the config's; `list data` shows all
  grid: Grid = UNTUNED  # what tuning tries
  gradients: int | None = None  # budget of a run; the config's where no budget is given
  steps: int | None = None  # budget of a run in steps
  seconds: int | None = None  # budget of a run in seconds on this machine, about
  processes: int = 1  # number of processes that share the runs, each on cores of its own

  def run(self, console: Console) -> None:
    amounts = {unit: getattr(self, unit) for unit in ("gradients", "steps", "seconds")}
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    training = self.config.training
    (unit, amount), *others = given.items() or [(training.unit, training.budget)]
    if others or amount < 1 or not 1 <= self.seeds <= FIRST_SEED:
      raise Refusal(
        "compare needs one of --gradients, --steps, --seconds, of 1 at least, and --seeds from 1 to"
        f" {FIRST_SEED}"
      )
    compared = equal_budgets.Comparison(
      self.config, self.methods, self.seeds, unit, amount, self.grid
    )
    with beside_helpers(sys.argv[1:], self.processes):
      equal_budgets.compare(compared, self.out, console)
    if self.processes:
      with one_at_a_time(self.out):
        directory.write(self.out, console)
