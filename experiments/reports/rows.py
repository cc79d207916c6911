"""What directories hold, as rows."""

from pathlib import Path
from typing import Any

from experiments.comparisons.table import run_rows
from experiments.config import Refusal, files
from experiments.training import run_directory


def rows_of(directory: Path) -> list[dict[str, Any]]:
  """What a directory holds: lines of a run's metrics, or a row a run of what is compared."""
  if (directory / "metrics.jsonl").exists():
    return run_directory.read_lines(directory)
  if (directory / "speed_up.json").exists():
    return files.read_json(directory / "speed_up.json")["rows"]
  if (directory / "results.json").exists():
    return run_rows(files.read_json(directory / "results.json")["runs"])
  raise Refusal(f"{directory} holds neither a run nor a finished comparison")
