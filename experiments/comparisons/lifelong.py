"""Class-incremental learning: methods times seeds, each on one task of classes after another.

A task is a run that starts from the params of the one before it. A comparison that was killed
continues with the run it was in, and repeats none that is finished.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from experiments import config as configuration
from experiments import presets
from experiments.comparisons import table, tuning
from experiments.comparisons.directory import Runs, claim, with_training
from experiments.comparisons.directory import check as check_runs
from experiments.comparisons.equal_budgets import PAID
from experiments.comparisons.sharing import Job, one_at_a_time, train_all
from experiments.config import Config, Lifelong, Refusal, files
from experiments.measures.forgetting import average_accuracy, forgetting
from experiments.training import batches, saved_runs
from experiments.training.evaluation import evaluate

MEASURES = ("average_accuracy", "forgetting")


@dataclasses.dataclass(frozen=True)
class LifelongComparison:
  """What compare.json holds."""

  config: Config
  methods: tuple[str, ...]
  seeds: int
  tasks: int
  replay: int
  unit: Literal["gradients", "steps"]  # of the budget of each task
  amount: int


def learn(compared: LifelongComparison, out: Path, console: Console) -> None:
  """Trains the runs that no process has; writes compare.json first and results.json last."""
  by_method = presets.by_method(compared.config, compared.methods)
  check(compared)
  check_runs({m: task_config(compared, config, 0, 0) for m, config in by_method.items()})
  claim(out, compared)
  runs = Runs(out, console)
  train_all(
    lambda: [
      job
      for name, config in by_method.items()
      for seed in range(compared.seeds)
      for job in unfinished(compared, config, seed, runs, name)
    ],
    console,
    left=lambda: len(by_method) * compared.seeds * compared.tasks - runs.count("runs/*/*/*"),
  )
  with one_at_a_time(out):
    write_results(compared, by_method, runs)


def write_results(compared: LifelongComparison, by_method: dict[str, Config], runs: Runs) -> None:
  """Writes results.json and results.csv from the files of finished runs."""
  results: dict[str, Any] = {
    "chosen": {name: configuration.to_dict(config.opt) for name, config in by_method.items()},
    "runs": {
      name: [one_seed(compared, config, seed, runs, name) for seed in range(compared.seeds)]
      for name, config in by_method.items()
    },
  }
  results["tables"] = {
    key: table.summarise(results["runs"], key=key, reference=compared.methods[0], means=PAID)
    for key in MEASURES
  }
  files.write_csv(runs.out / "results.csv", table.run_rows(results["runs"]))
  rows = [{"measure": key} | row for key in MEASURES for row in results["tables"][key]]
  files.write_csv(runs.out / "table.csv", rows)
  files.write_json(runs.out / "results.json", results)


def check(compared: LifelongComparison) -> None:
  least = {"seeds": 1, "tasks": 2, "replay": 0, "amount": 1}
  for name, smallest in least.items():
    if getattr(compared, name) < smallest:
      flag = f"--{compared.unit if name == 'amount' else name}"
      raise Refusal(f"{flag} must be at least {smallest}; got {getattr(compared, name)}")
  if compared.seeds > tuning.FIRST_SEED:
    raise Refusal(f"--seeds must be at most {tuning.FIRST_SEED}; got {compared.seeds}")
  batches.class_tasks(task_config(compared, compared.config, seed=0, task=0))


def task_config(compared: LifelongComparison, config: Config, seed: int, task: int) -> Config:
  """The config of a task's run; all but the first start from the run of the task before."""
  split = Lifelong(compared.tasks, task, compared.replay)
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, lifelong=split))
  start = {"start_from": f"../task-{task - 1}"} if task else {}
  return with_training(config, unit=compared.unit, budget=compared.amount, seed=seed, **start)


def unfinished(
  compared: LifelongComparison, config: Config, seed: int, runs: Runs, name: str
) -> list[Job]:
  """The first task that is not measured yet, which the later ones need."""
  for task in range(compared.tasks):
    path = task_path(name, seed, task)
    if not (runs.out.joinpath(*path) / "tasks.json").exists():
      train = functools.partial(train_and_measure, compared, config, seed, task, runs, name)
      return [Job(path, train)]
  return []


def task_path(name: str, seed: int, task: int) -> tuple[str, ...]:
  return "runs", name, f"seed-{seed}", f"task-{task}"


def train_and_measure(
  compared: LifelongComparison, config: Config, seed: int, task: int, runs: Runs, name: str
) -> tuple[dict[str, Any], list[float]]:
  path = task_path(name, seed, task)
  paid = runs.train(task_config(compared, config, seed, task), *path)
  return paid, accuracies(runs.out.joinpath(*path))


def one_seed(
  compared: LifelongComparison, config: Config, seed: int, runs: Runs, name: str
) -> dict[str, Any]:
  """One seed's accuracies after each task, their measures, and the costs of all tasks."""
  accuracy, paid = [], []
  for task in range(compared.tasks):
    one, measured = train_and_measure(compared, config, seed, task, runs, name)
    paid.append(one)
    accuracy.append(measured)
  curves = {"average_accuracy": average_accuracy(accuracy), "forgetting": forgetting(accuracy)}
  return {
    "seed": seed,
    "classes": batches.class_tasks(task_config(compared, config, seed, 0)),
    "accuracy": accuracy,
    "curves": curves,
    **{key: curve[-1] for key, curve in curves.items()},
    **{key: sum(one[key] for one in paid) for key in ("steps", "gradients", "seconds")},
    "steps_per_second": float(np.mean([one["steps_per_second"] for one in paid])),
    "peak_memory_mb": max(one["peak_memory_mb"] for one in paid),
  }


def accuracies(directory: Path) -> list[float]:
  """Accuracies in percent of a task's finished run, on the test examples of each task so far."""
  path = directory / "tasks.json"
  if not path.exists():
    config, program, state = saved_runs.load_finished(directory)
    measured = []
    for task in range(config.data.lifelong.task + 1):
      split = dataclasses.replace(config.data.lifelong, task=task)
      data = dataclasses.replace(config.data, lifelong=split)
      source = batches.evaluation_source(dataclasses.replace(config, data=data))
      found = evaluate(program, state, source, config.data.batch_size)
      measured.append(found.means["accuracy"])
    files.write_json(path, {"accuracy": measured})
  return files.read_json(path)["accuracy"]
