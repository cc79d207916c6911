"""Methods times seeds at an equal budget, each with the same number of tuning trials.

Every run, trials too, is a run directory of its own: a comparison that was killed goes on with the
run that it was in, and repeats none that is finished.
"""

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.stats
from rich.console import Console

from experiments import batches, configs, figures, files, run, run_directory, summary
from experiments import config as configuration
from experiments.config import Config, Refusal
from experiments.plots import own_metrics
from experiments.training import make_program

TRIAL_SEED = 1000  # that no comparison uses
HELD_OUT = 0.2  # of the training set, to judge trials on
FACTOR = 4.0  # trials look this far to both sides of a setting
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


def trial_configs(config: Config, trials: int) -> list[Config]:
  """The config's own setting first, then quasi-random ones around it, log-uniform.

  What varies is the learning rate, and the method's ``search`` or, where that is empty, the
  weight decay; Halton's points are the same for all methods.
  """
  opt, names = config.opt, config.opt.method.search
  points = scipy.stats.qmc.Halton(1 + max(1, len(names)), seed=0).random(max(0, trials - 1))
  found = [config] * min(1, trials)
  for rate_factor, *factors in FACTOR ** (2 * points - 1):
    own = {n: getattr(opt.method, n) * x for n, x in zip(names, factors, strict=False)}
    varied = dataclasses.replace(
      opt,
      learning_rate=float(opt.learning_rate * rate_factor),
      weight_decay=float(opt.weight_decay * (1 if names else factors[0])),
      method=dataclasses.replace(opt.method, **{n: float(x) for n, x in own.items()}),
    )
    found.append(dataclasses.replace(config, opt=varied))
  return found


def with_training(config: Config, **changes) -> Config:
  return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


class Runs:
  """Runs below one directory, counted for the reader."""

  def __init__(self, out: Path, total: int, console: Console):
    self.out, self.total, self.console = out, total, console
    self.done = 0

  def train(self, config: Config, *path: str) -> dict[str, Any]:
    self.done += 1
    self.console.print(f"run {self.done} of {self.total}: {' '.join(path)}")
    return run.train(config, self.out.joinpath(*path), self.console)


def compare(comparison: Comparison, out: Path, console: Console) -> None:
  """Runs what is not there yet; writes compare.json first and results.json last."""
  by_method = configs.by_method(comparison.config, comparison.methods)
  check(by_method)
  claim(out, comparison)
  speeds = int(comparison.unit == "seconds")
  runs = Runs(out, len(by_method) * (speeds + comparison.trials + comparison.seeds), console)
  results: dict[str, Any] = {"runs": {}, "chosen": {}, "trials": {}, "own_metrics": {}}
  for name, config in by_method.items():
    config = with_budget(comparison, config, runs, name)
    config, results["trials"][name] = tuned(comparison, config, runs, name)
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
  results["table"] = summary.summarise(
    results["runs"],
    key=measure(comparison).key,
    reference=comparison.methods[0],
    means=PAID,
  )
  files.write_json(out / "results.json", results)


def measure(comparison: Comparison) -> figures.Measure:
  """What runs are judged by, and how it is written."""
  reference = comparison.methods[0]
  if comparison.config.data.set.task == "classification":
    return figures.ACCURACY._replace(reference=reference)
  return figures.Measure("test_loss", "test loss, nats a token", 4, "lower", reference)


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
  curve = [(row["gradients"], summary.finite(row[name])) for row in passed]
  return {"seed": config.training.seed} | result | {"curve": curve}


def check(by_method: dict[str, Config]) -> None:
  """Refuses, before anything is written, what a run of one of these would be refused for."""
  first, *others = by_method.values()
  batches.training_source(first)
  example = batches.evaluation_source(first)[0]
  for config in (first, *others):
    make_program(config, example)


def claim(out: Path, comparison: Any) -> None:
  """Makes ``out`` this comparison's own, a dataclass of all that its runs depend on."""
  path, spec = out / "compare.json", to_json(comparison)
  if not path.exists():
    files.write_json(path, spec | {"versions": files.versions()})
    return
  found = files.read_json(path)
  found.pop("versions", None)
  with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
    # With the defaults of fields that came later; what is another kind stays as it was read.
    fields = {name: configuration.from_dict(value) for name, value in found.items()}
    found = to_json(type(comparison)(**fields))
  if lines := configuration.differences(found, spec):
    raise Refusal(f"{out} holds another comparison: {', '.join(lines)}")


def to_json(comparison: Any) -> dict[str, Any]:
  fields = {f.name: getattr(comparison, f.name) for f in dataclasses.fields(comparison)}
  return {name: configuration.to_dict(value) for name, value in fields.items()}


def with_budget(comparison: Comparison, config: Config, runs: Runs, name: str) -> Config:
  """Seconds become the steps that this machine makes in them."""
  if comparison.unit != "seconds":
    return with_training(config, unit=comparison.unit, budget=comparison.amount)
  short = with_training(config, unit="steps", budget=TIMED_STEPS, evaluations=1)
  speed = runs.train(short, "speed", name)["steps_per_second"]
  return with_training(config, unit="steps", budget=math.ceil(comparison.amount * speed))


def tuned(
  comparison: Comparison, config: Config, runs: Runs, name: str
) -> tuple[Config, list[dict[str, Any]]]:
  """The best trial's config, by what a held-out part of the training set says, and all trials."""
  judged_by = measure(comparison)
  candidates = trial_configs(config, comparison.trials)
  trials, scores = [], []
  for index, candidate in enumerate(candidates):
    data = dataclasses.replace(candidate.data, held_out=HELD_OUT)
    trial = with_training(dataclasses.replace(candidate, data=data), seed=TRIAL_SEED)
    value = runs.train(trial, "trials", name, str(index))[judged_by.key]
    trials.append({"opt": configuration.to_dict(trial.opt), judged_by.key: value})
    sign = 1 if judged_by.better == "higher" else -1
    scores.append(-math.inf if value is None else sign * value)
  best = candidates[int(np.argmax(scores))] if candidates else config
  return best, trials
