"""Whether the flatter runs of finished comparisons are the better ones, measure by measure."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments import config as configuration
from experiments.comparisons.flatness import measure_all
from experiments.config import Refusal, files
from experiments.measures import correlations, flatness
from experiments.measures.correlations import Group
from experiments.measures.flatness import FlatnessOptions
from experiments.measures.score import Score, score_of_table

NUMBERS = "correlations.json"
PICTURES = "span", "resolution", "pictured"  # options that change no measure


def measure(
  directories: Sequence[Path], options: FlatnessOptions, out: Path, console: Console
) -> None:
  """Measures the flatness that is not known yet; writes correlations.csv and correlations.json."""
  shared = check_alike(directories, options)
  runs = []
  for directory in directories:
    if not (directory / flatness.NUMBERS).exists():
      measure_all(directory, options, console)
    runs += read(directory)
  check_distinct(runs)
  score = score_of_table(files.read_json(directories[0] / "results.json")["table"])
  rows = [
    {"measure": name, "with": target} | row
    for target in (score.key, "gap")
    for name in flatness.MEASURES
    for row in correlations.correlations(groups(runs, name, target, score))
  ]
  written = {
    "score": score.key,
    "directories": [directory.name for directory in directories],
    "runs": len(runs),
  }
  out.mkdir(parents=True, exist_ok=True)
  files.write_csv(out / "correlations.csv", rows)
  files.write_json(out / NUMBERS, written | {"rows": rows} | shared)


def check_alike(directories: Sequence[Path], options: FlatnessOptions) -> dict[str, Any]:
  """What the comparisons share; refuses those whose runs cannot be ranked in one list."""
  if not directories:
    raise Refusal("correlate needs the directory of a finished comparison")
  shared: dict[str, Any] = {}
  for directory in directories:
    if not all((directory / name).exists() for name in ("results.json", "compare.json")):
      raise Refusal(f"{directory} holds no finished comparison")
    spec, path = files.read_json(directory / "compare.json"), directory / flatness.NUMBERS
    if "tasks" in spec or "pretrained" in spec:
      raise Refusal(f"{directory} is no comparison that `compare` or `demo` made")
    saved = files.read_json(path)["options"] if path.exists() else {}
    own_options = FlatnessOptions(**saved) if path.exists() else options
    own: dict[str, Any] = {
      "config": {name: spec["config"][name] for name in ("name", "data", "model")},
      "options": dataclasses.asdict(own_options),
    }
    own["label_smoothing"] = spec["config"]["training"]["label_smoothing"]
    own["options"] = {name: x for name, x in own["options"].items() if name not in PICTURES}
    if lines := configuration.differences(shared or own, own):
      raise Refusal(f"{directory} is not like {directories[0]}: {', '.join(lines)}")
    shared = own
  return shared


def read(directory: Path) -> list[dict[str, Any]]:
  """A row a run: its measures, test loss and accuracy, and the generalisation gap of the loss."""
  results = files.read_json(directory / "results.json")["runs"]
  measured = files.read_json(directory / flatness.NUMBERS)["runs"]
  rows = []
  for method, runs in results.items():
    for run, flat in zip(runs, measured[method], strict=True):
      row = {"comparison": str(directory), "method": method} | run | flat
      losses = run["test_loss"], flat["train_loss"]
      row["gap"] = None if None in losses else losses[0] - losses[1]
      rows.append(row)
  return rows


def check_distinct(runs: list[dict[str, Any]]) -> None:
  """Refuses a run that two comparisons hold, which would count twice."""
  seen = {}
  for run in runs:
    key = run["method"], run["seed"], run["steps"], run["test_loss"], run["train_loss"]
    if key in seen:
      raise Refusal(f"{seen[key]} and {run['comparison']} both hold the runs of {run['method']}")
    seen[key] = run["comparison"]


def groups(runs: list[dict[str, Any]], measure: str, target: str, score: Score) -> list[Group]:
  """The runs of every method of every comparison; without those whose numbers are not finite."""
  sign = 1 if target == score.key and score.better == "higher" else -1
  by_group: dict[tuple[str, str], list[tuple[float, float]]] = {}
  for run in runs:
    if run[measure] is not None and run[target] is not None:
      pair = -run[measure], sign * run[target]
      by_group.setdefault((run["comparison"], run["method"]), []).append(pair)
  return [Group(method, *np.transpose(pairs)) for (_, method), pairs in by_group.items()]
