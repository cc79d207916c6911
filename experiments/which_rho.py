"""What SAM's perturbation does at tuned rhos, over tasks, and whether it tells rho before SAM is run.

python -m experiments.which_rho TASKS.json OUT

A task is {"name", "base", "sam", "shares", "aside"}: finished comparisons in whose directories the
base and SAM were tuned, the shares of a run's steps to measure at, and whether it is kept aside.
"""

import dataclasses
import itertools
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import experiments.presets  # noqa: F401  # which register what configs hold
from experiments.config import files
from experiments.measures import perturbation
from experiments.plots import style, which_rho
from experiments.training import run_directory

FACTORS = 2.0 ** np.arange(-5, 6)  # on the chosen rho: the lattice that is measured
QUANTITIES = (
  "angle",
  "change",
  "relative_rise",
  "rise",
  "first_order",
  "rho_over_params",
  "rho_over_step",
)
WITHIN = 1.0  # points of held-out accuracy: the optimum's width
EARLY = 0.1  # share of the steps of a run with each rho
FIXED = 0.05  # the rho of who measures nothing

Task = dict[str, Any]
Points = tuple[list[float], list[float]]  # values of rho, and a quantity at each


def read_task(spec: dict[str, Any]) -> Task:
  """The held-out scores, higher is better, of the base and of the best setting at each rho tried."""
  tuned = files.read_json(Path(spec["sam"]) / "results.json")
  method = next(name for name in tuned["trials"] if name.startswith("sam"))
  rows, sign, key = tuned["trials"][method], 1, "validation_accuracy"
  if key not in rows[0]:
    sign, key = -1, "validation_loss"
  score = lambda row: -np.inf if None in row[key] else sign * float(np.mean(row[key]))
  best: dict[float, dict] = {}
  for row in rows:
    best[row["rho"]] = max(row, best.get(row["rho"], row), key=score)
  found = files.read_json(Path(spec["base"]) / "results.json")["trials"]
  base = next(name for name in found if not name.startswith("sam"))
  return {
    "name": spec["name"],
    "unit": "accuracy" if sign == 1 else "loss",
    "rho": tuned["chosen"][method]["method"]["rho"],
    "base_score": max(map(score, found[base])),
    "profile": [[rho, score(row)] for rho, row in sorted(best.items())],
    "settings": [best[rho] for rho in sorted(best)],
    "runs": {
      name: f"{spec[name]}/runs/{m}/seed-0" for name, m in (("base", base), ("sam", method))
    },
  }


def inner(task: Task) -> bool:
  """Whether the chosen rho is neither the smallest nor the largest tried."""
  rhos = [rho for rho, _ in task["profile"]]
  return min(rhos) < task["rho"] < max(rhos)


def own_runs(directory: Path, settings: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """A row whose value at each rho is of a run with it, after ``EARLY`` of its steps."""
  config, rows = run_directory.read_config(directory), []
  for one in settings:
    method = dataclasses.replace(config.opt.method, rho=one["rho"])
    shared = {name: one[name] for name in ("learning_rate", "weight_decay")}
    opt = dataclasses.replace(config.opt, method=method, **shared)
    rows += perturbation.replay(dataclasses.replace(config, opt=opt), [one["rho"]], [EARLY])
  return {
    "share": EARLY,
    "values": {
      name: [[row["values"][name][k][0] for row in rows] for k in range(len(quartiles))]
      for name, quartiles in rows[0]["values"].items()
      if name != "rho_over_step"
    },
  }


def gains(task: Task) -> bool:
  """Whether SAM beats its base on the held-out examples, at a rho that is not the smallest tried."""
  rhos, scores = zip(*task["profile"], strict=True)
  return max(scores) > task["base_score"] and task["rho"] > rhos[0]


def held_out(task: Task, rho: float) -> float:
  """The best setting's score at ``rho``: linear in its logarithm between those tried."""
  rhos, scores = zip(*task["profile"], strict=True)
  return float(np.interp(np.log(rho), np.log(rhos), scores))


def width(task: Task) -> list[float]:
  """The smallest and the largest rho tried around the chosen one, all within a point of the best."""
  rhos, scores = map(list, zip(*task["profile"], strict=True))
  low = high = rhos.index(task["rho"])
  good = [score >= max(scores) - WITHIN for score in scores]
  while low > 0 and good[low - 1]:
    low -= 1
  while high + 1 < len(good) and good[high + 1]:
    high += 1
  return [rhos[low], rhos[high]]


def points(task: Task, run: str, share: float, quantity: str) -> Points | None:
  """The quantity's medians over batches on the lattice of rho; None where it was not measured."""
  for row in task["moments"][run]:
    if row["share"] == share and quantity in row["values"]:
      return row["values"]["rho"][1], row["values"][quantity][1]
  return None


def solved(found: Points, value: float) -> float:
  """The rho at which the quantity first reaches ``value``, linear between points in logarithms."""
  rhos, values = found
  if value <= values[0]:
    return rhos[0]
  for (rho, x), (next_rho, y) in itertools.pairwise(zip(rhos, values, strict=True)):
    if y >= value:
      share = math.log(value / x) / math.log(y / x) if x > 0 else 1
      return rho * (next_rho / rho) ** share
  return rhos[-1]


def geometric_mean(values: Sequence[float]) -> float:
  return float(np.exp(np.mean(np.log(values))))


def guesses(measured: dict[str, Points], at_tuned: dict[str, float]) -> dict[str, float]:
  """For each task, the rho at which its quantity is the geometric mean of the others' tuned ones."""
  others = lambda name: [x for other, x in at_tuned.items() if other != name]
  return {name: solved(found, geometric_mean(others(name))) for name, found in measured.items()}


def judged(tasks: Sequence[Task], rhos: dict[str, float]) -> dict[str, Any]:
  """How far guessed rhos are from the tuned ones, and the held-out accuracy that they cost."""
  by_name = {task["name"]: task for task in tasks}
  factor = lambda task, rho: max(rho / task["rho"], task["rho"] / rho)
  rows = [
    {
      "task": name,
      "aside": by_name[name]["aside"],
      "rho": rho,
      "factor": factor(by_name[name], rho),
      "cost": held_out(by_name[name], by_name[name]["rho"]) - held_out(by_name[name], rho)
      if by_name[name]["unit"] == "accuracy"
      else None,
    }
    for name, rho in rhos.items()
  ]
  fitted = [row for row in rows if not row["aside"]]
  costs = [row["cost"] for row in fitted if row["cost"] is not None]
  return {
    "tasks": rows,
    "n": len(fitted),
    "factor": geometric_mean([row["factor"] for row in fitted]),
    "worst_factor": max(row["factor"] for row in fitted),
    "cost": statistics.fmean(costs),
    "worst_cost": max(costs),
  }


def analyse(tasks: Sequence[Task]) -> dict[str, Any]:
  """The rule's numbers over ``tasks``."""
  tuned = {task["name"]: task["rho"] for task in tasks if not task["aside"]}
  others = lambda name: [rho for other, rho in tuned.items() if other != name]
  ratio = lambda values: max(values) / min(values)
  rows = []
  runs = {
    (run, row["share"]) for task in tasks for run in task["moments"] for row in task["moments"][run]
  }
  for (run, share), quantity in itertools.product(sorted(runs), QUANTITIES):
    every = {task["name"]: points(task, run, share, quantity) for task in tasks}
    found = {name: one for name, one in every.items() if one}
    values = {
      task["name"]: float(np.interp(task["rho"], *found[task["name"]]))
      for task in tasks
      if task["name"] in found
    }
    fitted = {name: x for name, x in values.items() if name in tuned}
    if len(fitted) < 3 or min(fitted.values()) <= 0:
      continue
    spread = {"ratio": ratio(fitted.values()), "ratio_of_rho": ratio([tuned[x] for x in fitted])}
    which = {"run": run, "share": share, "quantity": quantity, "values": values}
    rows.append(which | spread | judged(tasks, guesses(found, fitted)))
  return {
    "rho": {task["name"]: task["rho"] for task in tasks},
    "width": {task["name"]: width(task) for task in tasks},
    "ratio_of_rho": ratio(tuned.values()),
    "fixed": judged(tasks, {task["name"]: FIXED for task in tasks}),
    "mean": judged(tasks, {task["name"]: geometric_mean(others(task["name"])) for task in tasks}),
    "rows": rows,
  }


def measured(spec: dict[str, Any], out: Path) -> Task:
  """The task of ``spec``, from its file in ``out`` where it was measured before."""
  path = out / f"{spec['name']}.json"
  if not path.exists():
    task = read_task(spec)
    rhos, runs = (task["rho"] * FACTORS).tolist(), task.pop("runs")
    task["moments"] = {
      run: perturbation.measure(Path(where), rhos, spec["shares"]) for run, where in runs.items()
    } | {"own": [own_runs(Path(runs["sam"]), task["settings"])]}
    files.write_json(path, task)
  return files.read_json(path) | {"aside": spec["aside"]}


def main() -> None:
  specs, out = files.read_json(Path(sys.argv[1]))["tasks"], Path(sys.argv[2])
  out.mkdir(parents=True, exist_ok=True)
  tasks = [measured(spec, out) for spec in specs]
  found = {which.__name__: analyse(list(filter(which, tasks))) for which in (gains, inner)}
  files.write_json(out / "which_rho.json", found)
  style.save_all({"which-rho": lambda theme: which_rho.draw(tasks, found["gains"], theme)}, out)


if __name__ == "__main__":
  main()
