"""Methods times seeds at an equal budget, each tuned over the same range.

Every run and every trial has a run directory of its own, so that a comparison that was killed
continues with the run it was in, and repeats none that is finished.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from experiments import config as configuration
from experiments import presets
from experiments.comparisons import own_metrics, table
from experiments.comparisons.directory import Runs, check, claim, with_training
from experiments.comparisons.sharing import Job, one_at_a_time, train_all
from experiments.comparisons.trials import Trials
from experiments.comparisons.tuning import UNTUNED, Grid, tuning_of
from experiments.config import Config, Refusal, files
from experiments.measures.score import Score, score_of
from experiments.training import metric_files, run_directory

TIMED_STEPS = 40
PAID = "steps", "gradients", "seconds", "steps_per_second", "peak_memory_mb"


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What compare.json holds."""

  config: Config
  methods: tuple[str, ...]
  seeds: int
  unit: Literal["gradients", "steps", "seconds"]
  amount: int
  grid: Grid = UNTUNED


def compare(comparison: Comparison, out: Path, console: Console) -> None:
  """Trains the runs that no process has; writes compare.json first and results.json last."""
  by_method = presets.by_method(comparison.config, comparison.methods)
  check(by_method)
  claim(out, comparison)
  runs = Runs(out, console)
  jobs = lambda: [
    job for name, config in by_method.items() for job in unfinished(comparison, config, runs, name)
  ]
  planned = sum(number_of_runs(comparison, config) for config in by_method.values())
  # More where a search goes on beyond its grid.
  left = lambda: max(len(jobs()), planned - runs.count("trials/*/*/*") - runs.count("runs/*/*"))
  train_all(jobs, console, left=left)
  with one_at_a_time(out):
    write_results(comparison, by_method, runs)


def write_results(comparison: Comparison, by_method: dict[str, Config], runs: Runs) -> None:
  """Writes results.json, and its runs and table as CSV, from the files of finished runs."""
  results: dict[str, Any] = {"runs": {}, "chosen": {}, "trials": {}, "edges": {}, "own_metrics": {}}
  scores = {}
  for name, config in by_method.items():
    trials = trials_of(comparison, config, runs, name)
    search, config = trials.search(), trials.chosen()
    results["trials"][name] = trials.rows()
    results["edges"][name] = (
      trials.tuning.at_edges(search.chosen, search.tried) if search.chosen else []
    )
    results["chosen"][name] = configuration.to_dict(config.opt)
    paths = seed_configs(comparison, config, name)
    results["runs"][name] = [seed_run(one, runs, *path) for path, one in paths.items()]
    directories = [runs.out.joinpath(*path) for path in paths]
    results["own_metrics"][name] = own_metrics.over_training(
      [metric_files.read_metrics(directory, "train") for directory in directories]
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


def unfinished(comparison: Comparison, config: Config, runs: Runs, name: str) -> list[Job]:
  """A method's runs that can be trained now: the timed run, then the trials, then the seeds."""
  open_ones = lambda configs: [
    runs.job(config, *path) for path, config in configs.items() if not runs.finished(*path)
  ]
  if comparison.unit == "seconds" and (jobs := open_ones({("speed", name): timed(config)})):
    return jobs
  trials = trials_of(comparison, config, runs, name)
  if due := trials.search().due:
    return open_ones(due)
  return open_ones(seed_configs(comparison, trials.chosen(), name))


def trials_of(comparison: Comparison, config: Config, runs: Runs, name: str) -> Trials:
  tuning = tuning_of(with_budget(comparison, config, runs, name), comparison.grid)
  return Trials(tuning, comparison.grid, runs, name, score(comparison))


def number_of_runs(comparison: Comparison, config: Config) -> int:
  """A method's trials on the grid and of its finalists, and its seeds."""
  grid = comparison.grid
  settings = len(tuning_of(config, grid).grid) if grid.tunes else 0
  again = min(grid.finalists, settings) * (grid.seeds_of_finalists - grid.trial_seeds)
  return settings * grid.trial_seeds + again + comparison.seeds


def score(comparison: Comparison) -> Score:
  return score_of(comparison.config, comparison.methods[0])


def seed_run(config: Config, runs: Runs, *path: str) -> dict[str, Any]:
  """A run's summary, its last logged training metrics, and its curve, a point an evaluation."""
  result = runs.train(config, *path)
  directory = runs.out.joinpath(*path)
  rows = metric_files.read_metrics(directory, "test")
  if not rows:
    raise Refusal(f"{directory} has lost its metrics.jsonl: delete it to run it again")
  name = "accuracy" if config.data.set.task == "classification" else "loss"
  training = config.training
  paid = "step" if training.unit == "steps" else "gradients"
  # A step that passes two evaluations leaves one row, which then stands for both.
  at = [training.budget * (k + 1) / training.evaluations for k in range(training.evaluations)]
  passed = [next((row for row in rows if row[paid] >= amount), rows[-1]) for amount in at]
  curve = [(row["gradients"], files.finite(row[name])) for row in passed]
  trained = (metric_files.read_metrics(directory, "train") or [{}])[-1]
  own = {f"train_{x}": files.finite(trained.get(x, math.nan)) for x in ("loss", "accuracy")}
  return {"seed": config.training.seed} | result | own | {"curve": curve}


def timed(config: Config) -> Config:
  """The config of a short run, which measures this machine's speed."""
  return with_training(config, unit="steps", budget=TIMED_STEPS, evaluations=1)


def with_budget(comparison: Comparison, config: Config, runs: Runs, name: str) -> Config:
  """``config`` with the comparison's budget; seconds become steps at this machine's speed."""
  unit, budget = comparison.unit, comparison.amount
  if unit == "seconds":
    speed = runs.train(timed(config), "speed", name)["steps_per_second"]
    unit, budget = "steps", math.ceil(budget * speed)
  return with_training(config, unit=unit, budget=budget)


def seed_configs(
  comparison: Comparison, config: Config, name: str
) -> dict[tuple[str, ...], Config]:
  """The configs of the compared runs, by their paths."""
  return {
    ("runs", name, f"seed-{seed}"): with_training(config, seed=seed)
    for seed in range(comparison.seeds)
  }
