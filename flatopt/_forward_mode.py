"""Forward mode, and what to do where a model's custom gradients have none."""

from collections.abc import Callable
from typing import Any

import jax

MODES = ("forward-reverse", "reverse-reverse")


def check_mode(method: str, mode: Any) -> None:
  if mode not in MODES:
    raise ValueError(f"{method}: mode must be one of {MODES}; got {mode!r}")


def jvp(method: str, remedy: str, fn: Callable, primals: tuple, tangents: tuple) -> Any:
  """``jax.jvp``; where ``fn`` has a ``custom_vjp`` in its way, the error ends in the remedy."""
  try:
    return jax.jvp(fn, primals, tangents)
  except TypeError as error:
    if "custom_vjp" not in str(error):
      raise
    raise TypeError(
      f"{method}: JAX cannot differentiate a custom_vjp function in forward mode; {remedy}"
    ) from error
