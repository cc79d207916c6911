"""Methods times seeds at an equal budget, each with the same number of tuning trials.

Every run, trials too, is a run directory of its own: a comparison that was killed goes on with the
run that it was in, and repeats none that is finished.
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
from experiments.comparisons.score import Score, score_of
from experiments.config import Config, Refusal, files
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
  """Runs what is not there yet; writes compare.json first and results.json last."""
  by_method = presets.by_method(comparison.config, comparison.methods)
  check_grids(comparison, by_method)
  check({f"{m} {i}": one for m, found in by_method.items() for i, one in enumerate(found)})
  claim(out, comparison)
  speeds = int(comparison.unit == "seconds")
  runs = Runs(out, len(by_method) * (speeds + comparison.trials + comparison.seeds), console)
  results: dict[str, Any] = {"runs": {}, "chosen": {}, "trials": {}, "own_metrics": {}}
  for name, candidates in by_method.items():
    training = with_budget(comparison, candidates[0], runs, name).training
    candidates = [dataclasses.replace(one, training=training) for one in candidates]
    config, results["trials"][name] = tuned(comparison, candidates, runs, name)
    results["chosen"][name] = configuration.to_dict(config.opt)
    results["runs"][name] = [
      seed_run(with_training(config, seed=seed), runs, "runs", name, f"seed-{seed}")
      for seed in range(comparison.seeds)
    ]
    results["own_metrics"][name] = own_metrics.over_training(
      [
        run_directory.read_metrics(out / "runs" / name / f"seed-{seed}", "train")
        for seed in range(comparison.seeds)
      ]
    )
  results["table"] = table.summarise(
    results["runs"],
    key=score(comparison).key,
    reference=comparison.methods[0],
    means=PAID,
  )
  files.write_csv(out / "results.csv", table.run_rows(results["runs"]))
  files.write_json(out / "results.json", results)


def score(comparison: Comparison) -> Score:
  return score_of(comparison.config, comparison.methods[0])


def seed_run(config: Config, runs: Runs, *path: str) -> dict[str, Any]:
  """A run's summary, and its curve: one point an evaluation."""
  result = runs.train(config, *path)
  directory = runs.out.joinpath(*path)
  rows = run_directory.read_metrics(directory, "test")
  if not rows:
    raise Refusal(f"{directory} has lost its metrics.jsonl: delete it to run it again")
  name = "accuracy" if config.data.set.task == "classification" else "loss"
  training = config.training
  paid = "step" if training.unit == "steps" else "gradients"
  # A step that passes two evaluations at once leaves one row: each run has a point for each.
  at = [training.budget * (k + 1) / training.evaluations for k in range(training.evaluations)]
  passed = [next((row for row in rows if row[paid] >= amount), rows[-1]) for amount in at]
  curve = [(row["gradients"], files.finite(row[name])) for row in passed]
  return {"seed": config.training.seed} | result | {"curve": curve}


def check_grids(comparison: Comparison, by_method: dict[str, list[Config]]) -> None:
  """A method that names what to try is given as many trials as the others."""
  for name, found in by_method.items():
    if len(found) not in (1, comparison.trials):
      raise Refusal(
        f"{name} is {len(found)} settings to try: --trials {len(found)} gives every method as many"
      )


def with_budget(comparison: Comparison, config: Config, runs: Runs, name: str) -> Config:
  """Seconds become the steps that this machine makes in them."""
  if comparison.unit != "seconds":
    return with_training(config, unit=comparison.unit, budget=comparison.amount)
  short = with_training(config, unit="steps", budget=TIMED_STEPS, evaluations=1)
  speed = runs.train(short, "speed", name)["steps_per_second"]
  return with_training(config, unit="steps", budget=math.ceil(comparison.amount * speed))


def tuned(
  comparison: Comparison, candidates: list[Config], runs: Runs, name: str
) -> tuple[Config, list[dict[str, Any]]]:
  """The best trial's config, by what a held-out part of the training set says, and all trials.

  Several candidates are the trials; one alone is what trials are drawn around.
  """
  judged_by = score(comparison)
  key = judged_by.key.replace("test", "validation")
  if len(candidates) == 1:
    candidates = tuning.trial_configs(candidates[0], comparison.trials) or candidates
  trials, scores = [], []
  for index, candidate in enumerate(candidates if comparison.trials else ()):
    data = dataclasses.replace(candidate.data, held_out=tuning.HELD_OUT)
    trial = with_training(dataclasses.replace(candidate, data=data), seed=tuning.SEED)
    found = runs.train(trial, "trials", name, str(index))
    value = found.get(key, found.get(judged_by.key))  # as older versions called it
    trials.append({"opt": configuration.to_dict(trial.opt), key: value})
    sign = 1 if judged_by.better == "higher" else -1
    scores.append(-math.inf if value is None else sign * value)
  best = candidates[int(np.argmax(scores))] if scores else candidates[0]
  return best, trials
