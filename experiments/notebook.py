"""What a notebook wants: a run, and what directories hold as tables.

Each function imports what it needs when it is called: the commands import this module's package,
and want only what they use themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import pandas

  from experiments.config import Config


def train(config: Config | str, run_dir: str | Path | None = None) -> dict[str, Any]:
  """Trains a config, or one by its name, and returns what came of it.

  A directory that holds the same run already is gone on with, as the command does; without one
  the run goes to a new directory below ``runs``, which the result names as "run_dir".
  """
  from rich.console import Console

  from experiments import presets
  from experiments.training import loop

  if isinstance(config, str):
    config = presets.find(config)
  where = _new_directory(config.name) if run_dir is None else Path(run_dir)
  return {"run_dir": str(where)} | loop.train(config, where, Console())


def load(directory: str | Path) -> pandas.DataFrame:
  """What a directory holds: a row a line of a run's metrics, or a row a run of a comparison."""
  import pandas

  from experiments.reports.rows import rows_of

  return pandas.DataFrame(rows_of(Path(directory)))


def _new_directory(name: str) -> Path:
  number = 1
  while (where := Path("runs") / f"{name}-{number}").exists():
    number += 1
  return where
