"""A clear error for models whose custom gradients have no forward mode."""

import contextlib
from collections.abc import Iterator
from typing import Any

from flatopt import _arguments

MODES = ("forward-reverse", "reverse-reverse")


def check_mode(method: str, mode: Any) -> None:
  """Checks the argument ``mode``, which selects how a product is differentiated."""
  if mode not in MODES:
    raise ValueError(f"{method}: mode must be one of {MODES}; got {_arguments.describe(mode)}")


@contextlib.contextmanager
def explained(method: str, remedy: str) -> Iterator[None]:
  """Adds a remedy to JAX's error if a ``custom_vjp`` function, which has no jvp, is in the way.

  Under ``jit`` JAX raises its own error, when it compiles the program.
  """
  try:
    yield
  except TypeError as error:
    if "(jvp) to a custom_vjp function" not in str(error):
      raise
    raise TypeError(
      f"{method}: JAX cannot differentiate a custom_vjp function in forward mode; {remedy}"
    ) from error
