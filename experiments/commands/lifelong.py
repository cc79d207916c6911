"""Methods times seeds on one task of classes after another."""

import dataclasses
from pathlib import Path
from typing import Annotated

from rich.console import Console

from experiments.comparisons import lifelong
from experiments.comparisons.sharing import one_at_a_time
from experiments.config import Config, Inline, Refusal
from experiments.reports import directory


@dataclasses.dataclass(frozen=True)
class Lifelong:
  """Trains methods on one task of classes after another, and measures forgetting."""

  config: Annotated[Config, Inline]
  out: Path  # directory of the runs and the report
  methods: tuple[str, ...]  # by name; the others are compared with the first
  tasks: int = 5  # number of tasks, among which the classes are divided
  replay: int = 0  # examples of earlier tasks in memory, from which half of a batch is drawn
  seeds: int = 3
  base: str | None = None  # base optimizer in place of the config's, such as adamw:b2=0.99
  model: str | None = None  # model in place of the config's; `list models` shows all
  data: str | None = None  # data set in place of the config's; `list data` shows all
  gradients: int | None = None  # budget of a task; the config's where no budget is given
  steps: int | None = None  # budget of a task in steps

  def run(self, console: Console) -> None:
    amounts = {unit: getattr(self, unit) for unit in ("gradients", "steps")}
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    training = self.config.training
    (unit, amount), *others = given.items() or [(training.unit, training.budget)]
    if others:
      raise Refusal("lifelong takes one of --gradients, --steps")
    compared = lifelong.LifelongComparison(
      self.config, self.methods, self.seeds, self.tasks, self.replay, unit, amount
    )
    lifelong.learn(compared, self.out, console)
    with one_at_a_time(self.out):
      directory.write(self.out, console)
