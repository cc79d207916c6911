"""Functions for notebooks: train a run, and read results into tables.

Each function imports its packages when it is called, because every command imports this module too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import pandas

  from experiments.config import Config


def train(config: Config | str, run_dir: str | Path | None = None) -> dict[str, Any]:
  """Trains a config, or one by its name, and returns the run's summary and directory.

  A run that ``run_dir`` holds already is continued. Without ``run_dir`` the run goes to a new
  directory below ``runs``, which the result names as "run_dir".
  """
  from rich.console import Console

  from experiments import presets
  from experiments.training import loop

  if isinstance(config, str):
    config = presets.find(config)
  directory = _new_directory(config.name) if run_dir is None else Path(run_dir)
  return {"run_dir": str(directory)} | loop.train(config, directory, Console(markup=False))


def load(directory: str | Path) -> pandas.DataFrame:
  """A table of a run's metrics, one row a line, or of a comparison, one row a run."""
  import pandas

  from experiments.reports.rows import rows_of

  return pandas.DataFrame(rows_of(Path(directory)))


def _new_directory(name: str) -> Path:
  number = 1
  while (where := Path("runs") / f"{name}-{number}").exists():
    number += 1
  return where
