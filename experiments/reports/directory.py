"""Reports of what a directory holds, from its files alone."""

from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from experiments.config import Refusal, files
from experiments.reports import (
  comparison,
  correlations,
  demo,
  fine_tuning,
  forgetting,
  frontier,
  lifelong,
  run,
  speed_up,
)


def write(directory: Path, console: Console) -> None:
  """report.html and figures in ``directory``, and the table on the terminal."""
  if not directory.is_dir():
    raise Refusal(f"there is no directory {directory}")
  spec = directory / "compare.json"
  if spec.exists():
    kind = kind_of(files.read_json(spec))
  elif (directory / "speed_up.json").exists():
    kind = speed_up
  elif (directory / "frontier.json").exists():
    kind = frontier
  elif (directory / "forgetting.json").exists():
    kind = forgetting
  elif (directory / "correlations.json").exists():
    kind = correlations
  elif (directory / "metrics.jsonl").exists():
    kind = run
  elif (directory / "results.json").exists():
    kind = demo
  else:
    raise Refusal(f"{directory} holds neither a run nor a finished comparison")
  with files.writing(directory):
    kind.write(directory, console)


def kind_of(spec: dict[str, Any]) -> ModuleType:
  """What reports on a comparison, told by a field that no other kind has."""
  if "tasks" in spec:
    return lifelong
  return fine_tuning if "pretrained" in spec else comparison
