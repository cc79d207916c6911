"""Processes that share a comparison: each trains a run that is not finished and that nobody has.

Who trains a run holds the lock of its directory, which the system takes back from a process that
is gone, SIGKILL or not: its run is free again, and whoever is next goes on from its checkpoint.
Machines share a directory where its file system has locks for all of them.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.training.run_directory import Busy

PAUSE = 0.5  # seconds between looks at what others train


class Job(NamedTuple):
  path: tuple[str, ...]  # below the comparison's directory
  train: Callable[[], None]


def train_all(
  unfinished: Callable[[], list[Job]], console: Console, pause: Callable = time.sleep
) -> None:
  """Takes one job after another until none is left; waits for those that others have.

  ``unfinished`` says what may be trained by now: a method's own runs only follow its trials.
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
        console.print(f"others train what is left, {named}{more}: waiting for them")
      waiting = True
      pause(PAUSE)


@contextlib.contextmanager
def one_at_a_time(out: Path) -> Iterator[None]:
  """Among processes that share ``out``: to write what all of them would."""
  out.mkdir(parents=True, exist_ok=True)
  with open(out / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


@contextlib.contextmanager
def nobody_else(directory: Path) -> Iterator[None]:
  """``Busy`` where another process is at the same job, which is more than training a run."""
  directory.mkdir(parents=True, exist_ok=True)
  with open(directory / "job.lock", "w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise Busy(f"another process is at work in {directory}") from None
    yield
