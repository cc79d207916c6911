"""Processes that share a comparison: each trains an unfinished run that no other process has.

A process holds the lock of the run's directory while it trains. The system frees the lock when the
process ends, by SIGKILL too, and another process continues the run from its checkpoint. Several
machines can share a directory if its file system supports locks between them.
"""

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.config.locks import Busy, locked

PAUSE = 0.5  # seconds between checks for unfinished runs


class Job(NamedTuple):
  path: tuple[str, ...]  # below the comparison's directory
  train: Callable[[], None]


def train_all(
  unfinished: Callable[[], list[Job]],
  console: Console,
  pause: Callable = time.sleep,
  *,
  left: Callable[[], int] | None = None,
) -> None:
  """Trains one job after another until none is left, and waits for those that other processes have.

  ``unfinished`` lists the jobs that can be trained now; a method's runs follow its trials.
  ``left`` counts those too that cannot be trained yet. The time that is left is told from what all
  processes have finished since this one began.
  """
  left = left or (lambda: len(unfinished()))
  began, at_first, waiting = time.monotonic(), left(), False
  while jobs := unfinished():
    for job in jobs:
      try:
        job.train()
      except Busy:
        continue
      waiting = False
      console.print(f"done: {' '.join(job.path)}{_time_left(began, at_first, left())}")
      break
    else:
      if not waiting:
        named = ", ".join(" ".join(job.path) for job in jobs[:3])
        more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
        console.print(f"waiting for other processes, which train {named}{more}")
      waiting = True
      pause(PAUSE)


def _time_left(began: float, at_first: int, left: int) -> str:
  if not 0 < left < at_first:
    return ""
  seconds = (time.monotonic() - began) / (at_first - left) * left
  return f"; {left} left, about {math.ceil(seconds / 60)} min"


def one_at_a_time(out: Path) -> contextlib.AbstractContextManager[None]:
  """Holds a lock among the processes that share ``out``, to write files that are common to all."""
  return locked(out, "lock")


def nobody_else(directory: Path) -> contextlib.AbstractContextManager[None]:
  """``Busy`` where another process is at the same job, which is more than training a run."""
  return locked(directory, "job.lock", busy=f"another process is at work in {directory}")


@contextlib.contextmanager
def beside_helpers(flags: Sequence[str], processes: int) -> Iterator[None]:
  """Starts ``processes - 1`` more of ``python -m experiments FLAGS``, each on cores of its own.

  They print nothing, because this process reports the same errors. It keeps to its own cores too
  where JAX has not started its threads yet, which stay on the cores of their process.
  """
  started = []
  for own in cores_of_each(processes)[1:]:
    command = [sys.executable, "-m", "experiments", *flags, "--processes", "0"]
    other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started.append(other)
    bind(other.pid, own)
  if started:
    bind(0, cores_of_each(processes)[0])
  try:
    yield
    for other in started:
      other.wait()
  finally:
    for other in started:
      other.terminate()


def cores_of_each(processes: int) -> list[set[int]]:
  """This process's cores dealt out: to each as many, or one that several share; empty if unknown.

  Two processes on the same two cores took 1.4 times as long as on one each.
  """
  if not hasattr(os, "sched_getaffinity"):
    return [set()] * processes
  cores = sorted(os.sched_getaffinity(0))
  return [set(cores[i::processes]) or {cores[i % len(cores)]} for i in range(processes)]


def bind(process: int, cores: set[int]) -> None:
  """Keeps a process to ``cores``; one that has ended already is left alone."""
  if cores:
    with contextlib.suppress(ProcessLookupError):
      os.sched_setaffinity(process, cores)
