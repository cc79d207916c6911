"""The trials of a method's settings: runs on a part of the training set, judged on the rest."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from experiments.comparisons.directory import Runs, with_training
from experiments.comparisons.tuning import FIRST_SEED, HELD_OUT, Setting, Tuning
from experiments.config import Config
from experiments.measures.score import Score

Path = tuple[str, ...]  # of a run, below the comparison's directory


class Trials(NamedTuple):
  """What a search over settings needs of runs; without ``seeds`` nothing is tried."""

  tuning: Tuning
  seeds: int
  runs: Runs
  name: str
  score: Score

  def search(self) -> tuple[dict[Setting, float], dict[Path, Config]]:
    """The scores of settings that were tried, and the trials due now; none where it has ended."""
    tried: dict[Setting, float] = {}
    while self.seeds and (due := self.tuning.next(tried)):
      trials = {path: one for setting in due for path, one in self.configs(setting).items()}
      if left := {path: one for path, one in trials.items() if not self.runs.finished(*path)}:
        return tried, left
      tried |= {setting: self.value(setting) for setting in due}
    return tried, {}

  def configs(self, setting: Setting) -> dict[Path, Config]:
    """A setting's trials by their paths, a seed each."""
    config = self.tuning.configured(setting)
    data = dataclasses.replace(config.data, held_out=HELD_OUT)
    config = dataclasses.replace(config, data=data)
    where = ",".join(f"{name}={x:.4g}" for name, x in self.tuning.values(setting).items())
    return {
      ("trials", self.name, where, f"seed-{seed}"): with_training(config, seed=seed, evaluations=1)
      for seed in range(FIRST_SEED, FIRST_SEED + self.seeds)
    }

  @property
  def key(self) -> str:
    return self.score.key.replace("test", "validation")

  def values(self, setting: Setting) -> list[float | None]:
    """What each seed's trial reached on the held-out examples; None where it diverged."""
    trials = self.configs(setting).items()
    return [self.runs.train(config, *path)[self.key] for path, config in trials]

  def value(self, setting: Setting) -> float:
    """Their mean, where higher is better."""
    values = self.values(setting)
    if None in values:
      return -math.inf
    return float(np.mean(values)) * (1 if self.score.better == "higher" else -1)

  def rows(self) -> list[dict[str, Any]]:
    """Every setting that was tried, with its trials' values."""
    tried, _ = self.search()
    return [self.tuning.values(setting) | {self.key: self.values(setting)} for setting in tried]
