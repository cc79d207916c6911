"""Compiled programs that are kept, so that a measure that is taken every epoch compiles once."""

import dataclasses
import functools
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def run(owner: Any, measure: Callable, static: tuple[Any, ...], *arrays: Any) -> Any:
  """Computes ``measure(*static, *arrays)`` in one compiled program, which is kept for the owner.

  The owner is the function or the operator that is measured. If it loops on the host, there is no
  such program. Inside jit the measure is a part of the caller's program, because a kept program
  must not contain tracers.
  """
  # Under jit this constant is a tracer, even if no argument is one.
  leaves = (jnp.zeros(()), *jax.tree.leaves(arrays))
  if on_host(owner) or any(isinstance(x, Tracer) for x in leaves):
    return measure(*static, *arrays)
  return program(owner, measure, *static)(*arrays)


def on_host(owner: Any) -> bool:
  """Whether the owner loops over batches on the host, which cannot be traced."""
  return getattr(owner, "on_host", False)


def program(owner: Hashable, fn: Callable, *static: Any) -> Callable:
  """Returns ``fn(*static, ...)``, jitted. Equal arguments give the same program.

  A program contains the arrays that the owner closes over or reads from its module. So if one of
  those names is bound to another array, the program is compiled again.
  """
  if not _has_hash(owner):
    return jax.jit(functools.partial(fn, *static))
  arrays = tuple(map(_ArrayIdentity, _captured_arrays(owner, set())))
  return _programs_of(owner, arrays)(fn, *static)


@functools.lru_cache(maxsize=16)  # A limit, because old functions keep their data in memory.
def _programs_of(*key: Hashable) -> Callable[..., Callable]:
  """Returns a function that makes, and remembers, the programs for one key."""
  del key
  return functools.cache(lambda fn, *static: jax.jit(functools.partial(fn, *static)))


@dataclasses.dataclass(frozen=True, eq=False)
class _ArrayIdentity:
  """Compares arrays by identity, so that they can be a part of a key."""

  array: Any

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _ArrayIdentity) and self.array is other.array

  def __hash__(self) -> int:
    return id(self.array)


def _captured_arrays(value: Any, seen: set[int]) -> Iterator[Any]:
  """Yields the arrays that a function, or a function inside it, closes over or reads globally."""
  if id(value) in seen:
    return
  seen.add(id(value))
  inside: list[Any] = []
  if isinstance(value, jax.Array | np.ndarray):
    yield value
  elif isinstance(value, dict | list | tuple):
    inside = list(jax.tree.leaves(value))
  elif isinstance(value, functools.partial):
    inside = [value.func, *value.args, *value.keywords.values()]
  elif dataclasses.is_dataclass(value) and not isinstance(value, type):
    inside = [getattr(value, field.name) for field in dataclasses.fields(value)]
  elif isinstance(value, types.FunctionType):
    read = [value.__globals__.get(name) for name in _global_names(value.__code__)]
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    inside = [*cells, *(x for x in read if not callable(x))]
  inside.append(getattr(value, "__wrapped__", None))
  for x in inside:
    yield from _captured_arrays(x, seen)


def _global_names(code: types.CodeType) -> set[str]:
  """Returns the names that the code, or code nested in it, may read from its module."""
  nested = (x for x in code.co_consts if isinstance(x, types.CodeType))
  return set(code.co_names).union(*map(_global_names, nested))


def _has_hash(owner: Any) -> bool:
  try:
    hash(owner)
  except TypeError:
    return False
  return True
