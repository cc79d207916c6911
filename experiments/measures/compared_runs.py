"""Every run of a finished comparison, restored one after another to be measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.config import Refusal, files
from experiments.methods import method_name
from experiments.training import run_directory, saved_runs
from experiments.training.saved_runs import Trained

MOST_SEEDS = 1000  # of a comparison


def runs_below(directory: Path) -> dict[str, list[Path]]:
  """Directories of runs by method, those of a comparison in the order of its seeds."""
  spec = directory / "compare.json"
  if not spec.exists():
    return {method_name(run_directory.read_config(directory).opt): [directory]}
  if not (directory / "results.json").exists():
    raise Refusal(
      f"{directory}: the comparison is not finished: run the same `compare` again to continue"
    )
  compared = files.read_json(spec)
  where = lambda method, seed: directory / "runs" / method / f"seed-{seed}"
  with files.reading(spec):
    seeds, methods = compared["seeds"], compared["methods"]
    if any(method in (".", "..") or "/" in method for method in methods) or seeds > MOST_SEEDS:
      raise ValueError("its methods and seeds are no names of runs")
    found = {method: [where(method, seed) for seed in range(seeds)] for method in methods}
  for path in (path for paths in found.values() for path in paths):
    run_directory.read_config(path)  # a run that is gone is missed before the first is measured
  return found


def measure_each(
  directory: Path, measure: Callable[[Trained], Any], console: Console
) -> dict[str, Any]:
  """The config's name and task, the reference, and what ``measure`` finds of each run by method."""
  runs = runs_below(directory)
  total, found, said = sum(map(len, runs.values())), {}, {}
  for method, paths in runs.items():
    found[method] = []
    for path in paths:
      done = sum(map(len, found.values()))
      console.print(f"run {done + 1} of {total}: {method} in {path}")
      run = saved_runs.restore(path)
      found[method].append(measure(run))
      said = {"name": run.config.name, "task": run.config.data.set.task}
  return said | {"reference": next(iter(runs)), "runs": found}
