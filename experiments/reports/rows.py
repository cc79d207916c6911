"""The tables of runs and comparisons, as rows."""

from pathlib import Path
from typing import Any

from experiments.comparisons.table import run_rows
from experiments.config import Refusal, files
from experiments.training import metric_files


def rows_of(directory: Path) -> list[dict[str, Any]]:
  """The lines of a run's metrics, or one row for each run of a comparison."""
  if (directory / "metrics.jsonl").exists():
    return metric_files.read_lines(directory)
  if (directory / "speed_up.json").exists():
    return files.read_json(directory / "speed_up.json")["rows"]
  if (directory / "results.json").exists():
    return run_rows(files.read_json(directory / "results.json")["runs"])
  raise Refusal(f"{directory} holds neither a run nor a finished comparison")
