"""The trials of a method's settings: runs on a part of the training set, judged on the rest."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.comparisons.directory import Runs, with_training
from experiments.comparisons.tuning import FIRST_SEED, HELD_OUT, Grid, Setting, Tuning, ranked
from experiments.config import Config
from experiments.measures.score import Score

Path = tuple[str, ...]  # of a run, below the comparison's directory


class Search(NamedTuple):
  """Where a search stands: the trials that are due, or the setting that it has chosen."""

  tried: dict[Setting, float]  # scores on the seeds of the search
  due: dict[Path, Config]
  chosen: Setting | None  # None where trials are due, or nothing varies


class Trials(NamedTuple):
  """What a search over settings needs of runs."""

  tuning: Tuning
  grid: Grid
  runs: Runs
  name: str
  score: Score

  def search(self) -> Search:
    """The search as far as its trials have been run."""
    tried: dict[Setting, float] = {}
    while self.grid.tunes and (settings := self.tuning.next(tried)):
      scores, due = self.judged(settings, self.grid.trial_seeds)
      if due:
        return Search(tried, due, None)
      tried |= scores
    finalists, due = self.judged(ranked(tried)[: self.grid.finalists], self.grid.seeds_of_finalists)
    return Search(tried, due, ranked(finalists)[0] if finalists else None)

  def chosen(self) -> Config:
    """The chosen setting's config; the method's own where nothing varies."""
    setting = self.search().chosen
    return self.tuning.config if setting is None else self.tuning.configured(setting)

  def judged(
    self, settings: Sequence[Setting], seeds: int
  ) -> tuple[dict[Setting, float], dict[Path, Config]]:
    """The settings' scores, or the trials without which there are none."""
    configs = {p: c for setting in settings for p, c in self.configs(setting, seeds).items()}
    due = {path: config for path, config in configs.items() if not self.runs.finished(*path)}
    return ({} if due else {one: self.value(one, seeds) for one in settings}), due

  def configs(self, setting: Setting, seeds: int) -> dict[Path, Config]:
    """A setting's trials by their paths, a seed each."""
    config = self.tuning.configured(setting)
    data = dataclasses.replace(config.data, held_out=HELD_OUT)
    config = dataclasses.replace(config, data=data)
    where = ",".join(f"{name}={x:.4g}" for name, x in self.tuning.values(setting).items())
    return {
      ("trials", self.name, where, f"seed-{seed}"): with_training(config, seed=seed, evaluations=1)
      for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    }

  @property
  def key(self) -> str:
    return self.score.key.replace("test", "validation")

  def values(self, setting: Setting, seeds: int) -> list[float | None]:
    """What each seed's trial reached on the held-out examples; None where it diverged."""
    trials = self.configs(setting, seeds).items()
    return [self.runs.train(config, *path)[self.key] for path, config in trials]

  def value(self, setting: Setting, seeds: int) -> float:
    """Their mean, where higher is better."""
    values = [value for value in self.values(setting, seeds) if value is not None]
    if len(values) < seeds:
      return -math.inf
    return float(np.mean(values)) * (1 if self.score.better == "higher" else -1)

  def rows(self) -> list[dict[str, Any]]:
    """Every setting that was tried, with its trials' values, which are more of a finalist."""
    tried = self.search().tried
    seeds = dict.fromkeys(tried, self.grid.trial_seeds)
    seeds |= dict.fromkeys(ranked(tried)[: self.grid.finalists], self.grid.seeds_of_finalists)
    return [
      self.tuning.values(setting) | {self.key: self.values(setting, count)}
      for setting, count in seeds.items()
    ]
