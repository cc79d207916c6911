"""Compiled programs that outlive a call, so that a measure taken every epoch compiles once."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def run(owner: Any, measure: Callable, static: tuple[Any, ...], *arrays: Any) -> Any:
  """``measure(*static, *arrays)`` in one program, which is kept for the owner.

  The owner is the function or the operator that is measured. Where it loops on the host there is
  no such program, and inside jit the measure is a part of the caller's: what is kept must not hold
  on to tracers.
  """
  # Under jit even this constant is a tracer, where no argument need be.
  leaves = (jnp.zeros(()), *jax.tree.leaves(arrays))
  if on_host(owner) or any(isinstance(x, Tracer) for x in leaves):
    return measure(*static, *arrays)
  return program(owner, measure, *static)(*arrays)


def on_host(owner: Any) -> bool:
  """Whether it loops over batches on the host and cannot be traced."""
  return getattr(owner, "on_host", False)


def program(owner: Hashable, fn: Callable, *static: Any) -> Callable:
  """The jitted ``fn(*static, ...)``: the same one for equal arguments."""
  if not _has_hash(owner):
    return jax.jit(functools.partial(fn, *static))
  return _programs_of(owner)(fn, *static)


@functools.lru_cache(maxsize=16)  # Fresh functions and the data they close over must not pile up.
def _programs_of(owner: Hashable) -> Callable[..., Callable]:
  del owner  # It is only the key.
  return functools.cache(lambda fn, *static: jax.jit(functools.partial(fn, *static)))


def _has_hash(owner: Any) -> bool:
  try:
    hash(owner)
  except TypeError:
    return False
  return True
