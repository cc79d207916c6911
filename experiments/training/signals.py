"""Signals that a run saves itself at."""

import contextlib
import signal
from collections.abc import Iterator

import jax

from experiments.config import Refusal


class Interrupted(Refusal):
  """SIGTERM or Ctrl-C; everything is saved."""

  def __init__(self, noted: list[int]):
    signum = noted[0] if noted else signal.SIGTERM
    self.code = 128 + signum
    super().__init__("interrupted and saved: the same command goes on from here")


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
  """SIGTERM and SIGINT only note themselves, for the loop to save and leave."""
  noted: list[int] = []
  # Among several processes SIGTERM is JAX's, which lets all of them leave at one step.
  kinds = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ()
  before = [signal.signal(kind, lambda signum, _: noted.append(signum)) for kind in kinds]
  try:
    yield noted
  finally:
    for kind, handler in zip(kinds, before, strict=True):
      signal.signal(kind, handler)
