"""Class-incremental learning: methods times seeds, each on one task of classes after another.

A task is a run that starts from the params of the one before it. A comparison that was killed goes
on with the run that it was in, and repeats none that is finished.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from experiments import batches, comparison, configs, files, run, summary, trained
from experiments import config as configuration
from experiments.config import Config, Lifelong, Refusal

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


def average_accuracy(accuracy: Sequence[Sequence[float]]) -> list[float]:
  """After each task the mean over the tasks so far; ``accuracy[t][j]`` is task j's after task t.

  Lopez-Paz and Ranzato 2017 (arXiv 1706.08840), section 2.
  """
  return [float(np.mean(row)) for row in accuracy]


def forgetting(accuracy: Sequence[Sequence[float]]) -> list[float]:
  """After each task but the first, how far the earlier ones are below their best until then.

      forgetting[t] = mean over j < t of (max over j <= l < t of accuracy[l][j]) - accuracy[t][j]

  Negative where the earlier tasks gained. Chaudhry et al. 2018 (arXiv 1801.10112), definition 3.
  """
  lost = lambda t, j: max(row[j] for row in accuracy[j:t]) - accuracy[t][j]
  return [float(np.mean([lost(t, j) for j in range(t)])) for t in range(1, len(accuracy))]


def learn(compared: LifelongComparison, out: Path, console: Console) -> None:
  """Runs what is not there yet; writes compare.json first and results.json last."""
  by_method = configs.by_method(compared.config, compared.methods)
  check(compared)
  comparison.check({m: task_config(compared, config, 0, 0) for m, config in by_method.items()})
  comparison.claim(out, compared)
  runs = comparison.Runs(out, len(by_method) * compared.seeds * compared.tasks, console)
  results: dict[str, Any] = {
    "chosen": {name: configuration.to_dict(config.opt) for name, config in by_method.items()},
    "runs": {
      name: [one_seed(compared, config, seed, runs, name) for seed in range(compared.seeds)]
      for name, config in by_method.items()
    },
  }
  results["tables"] = {
    key: summary.summarise(
      results["runs"], key=key, reference=compared.methods[0], means=comparison.PAID
    )
    for key in MEASURES
  }
  files.write_json(out / "results.json", results)


def check(compared: LifelongComparison) -> None:
  least = {"seeds": 1, "tasks": 2, "replay": 0, "amount": 1}
  for name, smallest in least.items():
    if getattr(compared, name) < smallest:
      said = f"--{compared.unit if name == 'amount' else name}"
      raise Refusal(f"{said} must be at least {smallest}; got {getattr(compared, name)}")
  batches.class_tasks(task_config(compared, compared.config, seed=0, task=0))


def task_config(compared: LifelongComparison, config: Config, seed: int, task: int) -> Config:
  """A task's run; those behind the first start from its neighbour in the directory."""
  split = Lifelong(compared.tasks, task, compared.replay)
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, lifelong=split))
  start = {"start_from": f"../task-{task - 1}"} if task else {}
  return comparison.with_training(
    config, unit=compared.unit, budget=compared.amount, seed=seed, **start
  )


def one_seed(
  compared: LifelongComparison, config: Config, seed: int, runs: comparison.Runs, name: str
) -> dict[str, Any]:
  """All tasks in turn: the accuracies after each, the measures, and what was paid in all."""
  accuracy, paid = [], []
  for task in range(compared.tasks):
    path = "runs", name, f"seed-{seed}", f"task-{task}"
    paid.append(runs.train(task_config(compared, config, seed, task), *path))
    accuracy.append(accuracies(runs.out.joinpath(*path)))
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
  """Of a task's finished run on the test examples of each task so far, in percent."""
  path = directory / "tasks.json"
  if not path.exists():
    config, program, state = trained.ended(directory)
    found = []
    for task in range(config.data.lifelong.task + 1):
      split = dataclasses.replace(config.data.lifelong, task=task)
      data = dataclasses.replace(config.data, lifelong=split)
      source = batches.evaluation_source(dataclasses.replace(config, data=data))
      found.append(run.evaluate(program, state, source, config.data.batch_size)["accuracy"])
    files.write_json(path, found)
  return files.read_json(path)
