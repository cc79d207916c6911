"""Methods times seeds at an equal budget."""

import dataclasses
from pathlib import Path
from typing import Annotated

from rich.console import Console

from experiments.comparisons import equal_budgets
from experiments.comparisons.sharing import one_at_a_time
from experiments.config import Config, Inline, Refusal
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Compare:
  """Methods times seeds at an equal budget; goes on where it was left."""

  config: Annotated[Config, Inline]
  out: Path  # holds every run, and the report
  methods: tuple[str, ...]  # the others are compared with the first
  seeds: int = 3
  base: str | None = None  # instead of the config's own, as adamw:b2=0.99; so
  model: str | None = None  # the model,
  data: str | None = None  # and the data set, by the names that `list` shows
  trials: int = 4  # of tuning, for every method; 0 takes the config's settings
  gradients: int | None = None  # that every run pays; else the config's budget,
  steps: int | None = None  # or steps that every run takes,
  seconds: int | None = None  # or about the seconds that its steps take on this machine

  def run(self, console: Console) -> None:
    amounts = {unit: getattr(self, unit) for unit in ("gradients", "steps", "seconds")}
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    training = self.config.training
    (unit, amount), *others = given.items() or [(training.unit, training.budget)]
    if others or amount < 1 or self.seeds < 1 or self.trials < 0:
      raise Refusal(
        "compare wants one of --gradients, --steps, --seconds, of 1 at least, and --seeds 1 and"
        " --trials 0 at least"
      )
    compared = equal_budgets.Comparison(
      self.config, self.methods, self.seeds, self.trials, unit, amount
    )
    equal_budgets.compare(compared, self.out, console)
    with one_at_a_time(self.out):
      directory.write(self.out, console)
