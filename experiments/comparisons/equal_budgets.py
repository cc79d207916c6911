"""Methods times seeds at an equal budget, each with the same number of tuning trials.

Every run and every trial has a run directory of its own, so that a comparison that was killed
continues with the run it was in, and repeats none that is finished.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from experiments import config as configuration
from experiments import presets
from experiments.comparisons import own_metrics, table, tuning
from experiments.comparisons.directory import Runs, check, claim, with_training
from experiments.comparisons.sharing import Job, one_at_a_time, train_all
from experiments.config import Config, Refusal, files
from experiments.measures.score import Score, score_of
from experiments.training import run_directory

TIMED_STEPS = 40
PAID = "steps", "gradients", "seconds", "steps_per_second", "peak_memory_mb"


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What compare.json holds."""

  config: Config
  methods: tuple[str, ...]
  seeds: int
  trials: int
  unit: Literal["gradients", "steps", "seconds"]
  amount: int


def compare(comparison: Comparison, out: Path, console: Console) -> None:
  """Trains the runs that no process has; writes compare.json first and results.json last."""
  by_method = presets.by_method(comparison.config, comparison.methods)
  check_grids(comparison, by_method)
  check({f"{m} {i}": one for m, found in by_method.items() for i, one in enumerate(found)})
  claim(out, comparison)
  runs = Runs(out, console)
  train_all(
    lambda: [
      job
      for name, candidates in by_method.items()
      for job in unfinished(comparison, candidates, runs, name)
    ],
    console,
  )
  with one_at_a_time(out):
    write_results(comparison, by_method, runs)


def write_results(comparison: Comparison, by_method: dict[str, list[Config]], runs: Runs) -> None:
  """Writes results.json, and its runs and table as CSV, from the files of finished runs."""
  results: dict[str, Any] = {"runs": {}, "chosen": {}, "trials": {}, "own_metrics": {}}
  scores = {}
  for name, candidates in by_method.items():
    candidates = with_budget(comparison, candidates, runs, name)
    config, results["trials"][name] = tuned(comparison, candidates, runs, name)
    results["chosen"][name] = configuration.to_dict(config.opt)
    paths = seed_configs(comparison, config, name)
    results["runs"][name] = [seed_run(one, runs, *path) for path, one in paths.items()]
    directories = [runs.out.joinpath(*path) for path in paths]
    results["own_metrics"][name] = own_metrics.over_training(
      [run_directory.read_metrics(directory, "train") for directory in directories]
    )
    scores[name] = [run_directory.read_scores(directory) for directory in directories]
  results["table"] = table.summarise(
    results["runs"],
    key=score(comparison).key,
    reference=comparison.methods[0],
    means=PAID,
    scores=scores,
  )
  files.write_csv(runs.out / "results.csv", table.run_rows(results["runs"]))
  files.write_csv(runs.out / "table.csv", results["table"])
  files.write_json(runs.out / "results.json", results)


def unfinished(
  comparison: Comparison, candidates: list[Config], runs: Runs, name: str
) -> list[Job]:
  """A method's runs that can be trained now: the timed run, then the trials, then the seeds."""
  open_ones = lambda configs: [
    runs.job(config, *path) for path, config in configs.items() if not runs.finished(*path)
  ]
  if comparison.unit == "seconds":
    jobs = open_ones({("speed", name): timed(candidates[0])})
    if jobs:
      return jobs
  candidates = with_budget(comparison, candidates, runs, name)
  if jobs := open_ones(trials(comparison, candidates, name)):
    return jobs
  config, _ = tuned(comparison, candidates, runs, name)
  return open_ones(seed_configs(comparison, config, name))


def score(comparison: Comparison) -> Score:
  return score_of(comparison.config, comparison.methods[0])


def seed_run(config: Config, runs: Runs, *path: str) -> dict[str, Any]:
  """A run's summary and its curve, with one point an evaluation."""
  result = runs.train(config, *path)
  directory = runs.out.joinpath(*path)
  rows = run_directory.read_metrics(directory, "test")
  if not rows:
    raise Refusal(f"{directory} has lost its metrics.jsonl: delete it to run it again")
  name = "accuracy" if config.data.set.task == "classification" else "loss"
  training = config.training
  paid = "step" if training.unit == "steps" else "gradients"
  # A step that passes two evaluations leaves one row, which then stands for both.
  at = [training.budget * (k + 1) / training.evaluations for k in range(training.evaluations)]
  passed = [next((row for row in rows if row[paid] >= amount), rows[-1]) for amount in at]
  curve = [(row["gradients"], files.finite(row[name])) for row in passed]
  return {"seed": config.training.seed} | result | {"curve": curve}


def check_grids(comparison: Comparison, by_method: dict[str, list[Config]]) -> None:
  """Refuses a grid that has not as many settings as other methods have trials."""
  for name, found in by_method.items():
    if len(found) not in (1, comparison.trials):
      raise Refusal(
        f"{name} is {len(found)} settings to try: --trials {len(found)} gives every method as many"
      )


def timed(config: Config) -> Config:
  """The config of a short run, which measures this machine's speed."""
  return with_training(config, unit="steps", budget=TIMED_STEPS, evaluations=1)


def with_budget(
  comparison: Comparison, candidates: list[Config], runs: Runs, name: str
) -> list[Config]:
  """The candidates with the comparison's budget; seconds become steps at this machine's speed."""
  unit, budget = comparison.unit, comparison.amount
  if unit == "seconds":
    speed = runs.train(timed(candidates[0]), "speed", name)["steps_per_second"]
    unit, budget = "steps", math.ceil(budget * speed)
  return [with_training(config, unit=unit, budget=budget) for config in candidates]


def seed_configs(
  comparison: Comparison, config: Config, name: str
) -> dict[tuple[str, ...], Config]:
  """The configs of the compared runs, by their paths."""
  return {
    ("runs", name, f"seed-{seed}"): with_training(config, seed=seed)
    for seed in range(comparison.seeds)
  }


def trials(
  comparison: Comparison, candidates: list[Config], name: str
) -> dict[tuple[str, ...], Config]:
  """The configs of tuning runs by their paths: a grid's settings, or draws around one setting."""
  if len(candidates) == 1:
    candidates = tuning.trial_configs(candidates[0], comparison.trials)
  found = {}
  for index, candidate in enumerate(candidates):
    data = dataclasses.replace(candidate.data, held_out=tuning.HELD_OUT)
    trial = with_training(dataclasses.replace(candidate, data=data), seed=tuning.SEED)
    found["trials", name, str(index)] = trial
  return found


def tuned(
  comparison: Comparison, candidates: list[Config], runs: Runs, name: str
) -> tuple[Config, list[dict[str, Any]]]:
  """The config of the best trial on the held-out part of the training set, and all trials' rows."""
  judged_by = score(comparison)
  key = judged_by.key.replace("test", "validation")
  sign = 1 if judged_by.better == "higher" else -1
  rows, scores = [], []
  for path, trial in trials(comparison, candidates, name).items():
    found = runs.train(trial, *path)
    value = found.get(key, found.get(judged_by.key))  # the name in older versions
    rows.append((trial.opt, value))
    scores.append(-math.inf if value is None else sign * value)
  opt = rows[int(np.argmax(scores))][0] if rows else candidates[0].opt
  written = [{"opt": configuration.to_dict(opt), key: value} for opt, value in rows]
  return dataclasses.replace(candidates[0], opt=opt), written
