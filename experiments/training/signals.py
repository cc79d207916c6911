"""SIGTERM and SIGINT, on which a run saves its state and stops."""

import contextlib
import signal
from collections.abc import Iterator

import jax

from experiments.config import Refusal


class Interrupted(Refusal):
  """A run stopped by SIGTERM or Ctrl-C, after its state was saved."""

  def __init__(self, received: list[int]):
    signum = received[0] if received else signal.SIGTERM
    self.code = 128 + signum
    super().__init__("interrupted and saved: run the same command again to continue")


@contextlib.contextmanager
def deferred_signals() -> Iterator[list[int]]:
  """Collects SIGTERM and SIGINT in a list, for the loop to save and stop at its next step."""
  received: list[int] = []
  # With several processes JAX handles SIGTERM, so that all of them stop at the same step.
  kinds = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ()
  previous = [signal.signal(kind, lambda signum, _: received.append(signum)) for kind in kinds]
  try:
    yield received
  finally:
    for kind, handler in zip(kinds, previous, strict=True):
      signal.signal(kind, handler)
