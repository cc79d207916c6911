"""Compiled programs that outlive a call, so that a measure taken every epoch compiles once."""

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
  """The jitted ``fn(*static, ...)``: the same one for equal arguments.

  An owner that closes over an array, or reads one from its module, is another owner when that
  name is bound to another array: the program has the first one built in.
  """
  if not _has_hash(owner):
    return jax.jit(functools.partial(fn, *static))
  arrays = tuple(map(_SameArray, _arrays_held_by(owner, set())))
  return _programs_of(owner, arrays)(fn, *static)


@functools.lru_cache(maxsize=16)  # Fresh functions and the data they close over must not pile up.
def _programs_of(*key: Hashable) -> Callable[..., Callable]:
  del key
  return functools.cache(lambda fn, *static: jax.jit(functools.partial(fn, *static)))


@dataclasses.dataclass(frozen=True, eq=False)  # compares by identity, as arrays do not
class _SameArray:
  array: Any

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _SameArray) and self.array is other.array

  def __hash__(self) -> int:
    return id(self.array)


def _arrays_held_by(value: Any, seen: set[int]) -> Iterator[Any]:
  """Arrays that a function closes over or reads from its module, or a function inside it does."""
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
    yield from _arrays_held_by(x, seen)


def _global_names(code: types.CodeType) -> set[str]:
  nested = (x for x in code.co_consts if isinstance(x, types.CodeType))
  return set(code.co_names).union(*map(_global_names, nested))


def _has_hash(owner: Any) -> bool:
  try:
    hash(owner)
  except TypeError:
    return False
  return True
