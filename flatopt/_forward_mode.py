"""``jax.jvp`` with a clear error for models whose custom gradients have no forward mode."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from flatopt import _arguments

MODES = ("forward-reverse", "reverse-reverse")


def check_mode(method: str, mode: Any) -> None:
  """Checks the argument ``mode``, which selects how a product is differentiated."""
  if mode not in MODES:
    raise ValueError(f"{method}: mode must be one of {MODES}; got {_arguments.describe(mode)}")


@contextlib.contextmanager
def explained(method: str, remedy: str) -> Iterator[None]:
  """Adds a remedy to JAX's error if a ``custom_vjp`` function, which has no jvp, is in the way."""
  try:
    yield
  except TypeError as error:
    if "(jvp) to a custom_vjp function" not in str(error):
      raise
    raise TypeError(
      f"{method}: JAX cannot differentiate a custom_vjp function in forward mode; {remedy}"
    ) from error


def jvp(method: str, remedy: str, fn: Callable, primals: tuple, tangents: tuple) -> Any:
  """``jax.jvp``. If ``fn`` contains a ``custom_vjp``, which has no jvp, the error has a remedy.

  Under ``jit`` JAX raises its own error, when it compiles the program.
  """
  with explained(method, remedy):
    return jax.jvp(fn, primals, tangents)
