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
  """Methods on one task of classes after another, and what they forget."""

  config: Annotated[Config, Inline]
  out: Path  # holds every run, and the report
  methods: tuple[str, ...]  # the others are compared with the first
  tasks: int = 5  # that the classes are dealt to
  replay: int = 0  # examples of earlier tasks in memory; half of all draws are from them
  seeds: int = 3
  base: str | None = None  # instead of the config's own, as adamw:b2=0.99; so
  model: str | None = None  # the model,
  data: str | None = None  # and the data set, by the names that `list` shows
  gradients: int | None = None  # that every task pays; else the config's budget,
  steps: int | None = None  # or steps that every task takes

  def run(self, console: Console) -> None:
    amounts = {unit: getattr(self, unit) for unit in ("gradients", "steps")}
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    training = self.config.training
    (unit, amount), *others = given.items() or [(training.unit, training.budget)]
    if others:
      raise Refusal("lifelong wants one of --gradients, --steps")
    compared = lifelong.LifelongComparison(
      self.config, self.methods, self.seeds, self.tasks, self.replay, unit, amount
    )
    lifelong.learn(compared, self.out, console)
    with one_at_a_time(self.out):
      directory.write(self.out, console)
