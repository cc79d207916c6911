"""What pre-trained models forget when they are fine-tuned."""

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console

from experiments.comparisons import fine_tuning
from experiments.comparisons.sharing import one_at_a_time
from experiments.reports import directory as reports


@dataclasses.dataclass(frozen=True)
class FineTune:
  """Fine-tunes every run of a finished comparison, and measures what it forgets."""

  directory: tyro.conf.Positional[Path]  # the finished comparison
  data: str  # to fine-tune on, by the names that `list data` shows
  out: Path  # holds every run, and the report
  steps: int = 500  # of each run, with the config's base and no method
  learning_rates: tuple[float, ...] = ()  # each is tried on every run; else the config's own
  bits: tuple[int, ...] = (8, 4)  # a weight, at which losses are measured besides
  examples: int | None = None  # of each of the two test sets; else as many as the config's

  def run(self, console: Console) -> None:
    compared = fine_tuning.of_comparison(
      self.directory,
      self.out,
      data=self.data,
      steps=self.steps,
      learning_rates=self.learning_rates,
      bits=self.bits,
      examples=self.examples,
    )
    fine_tuning.fine_tune(compared, self.out, console)
    with one_at_a_time(self.out):
      reports.write(self.out, console)
