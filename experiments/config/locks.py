"""Locks among processes, which the system frees when their process ends."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from experiments.config import Refusal


class Busy(Refusal):
  """Another process has the lock."""


@contextlib.contextmanager
def locked(directory: Path, name: str, *, busy: str | None = None) -> Iterator[None]:
  """Holds the lock ``name`` in ``directory`` among processes.

  Where another process has it, raises ``Busy`` with the text ``busy``, or waits without one.
  """
  directory.mkdir(parents=True, exist_ok=True)
  with open(directory / name, "w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError:
      raise Busy(busy) from None
    yield
