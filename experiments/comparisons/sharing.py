"""Processes that share a comparison: each trains an unfinished run that no other process has.

A process holds the lock of the run's directory while it trains. The system frees the lock when the
process ends, by SIGKILL too, and another process continues the run from its checkpoint. Several
machines can share a directory if its file system supports locks between them.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.training.run_directory import Busy, locked

PAUSE = 0.5  # seconds between checks for unfinished runs


class Job(NamedTuple):
  path: tuple[str, ...]  # below the comparison's directory
  train: Callable[[], None]


def train_all(
  unfinished: Callable[[], list[Job]], console: Console, pause: Callable = time.sleep
) -> None:
  """Trains one job after another until none is left, and waits for those that other processes have.

  ``unfinished`` lists the jobs that can be trained now; a method's runs follow its trials.
  """
  waiting = False
  while jobs := unfinished():
    for job in jobs:
      try:
        job.train()
      except Busy:
        continue
      waiting = False
      console.print(f"done: {' '.join(job.path)}")
      break
    else:
      if not waiting:
        named = ", ".join(" ".join(job.path) for job in jobs[:3])
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        console.print(f"waiting for other processes, which train {named}{more}")
      waiting = True
      pause(PAUSE)


def one_at_a_time(out: Path) -> contextlib.AbstractContextManager[None]:
  """Holds a lock among the processes that share ``out``, to write files that are common to all."""
  return locked(out, "lock")


def nobody_else(directory: Path) -> contextlib.AbstractContextManager[None]:
  """``Busy`` where another process is at the same job, which is more than training a run."""
  return locked(directory, "job.lock", busy=f"another process is at work in {directory}")
