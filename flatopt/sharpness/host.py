"""Means over batches by a loop on the host, and loops for measures that contain such a mean."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from flatopt import _tree
from flatopt.sharpness.programs import on_host, program


class HostMean:
  """The mean of ``fn`` over batches, by a loop on the host; ``over_iterable`` makes it."""

  on_host = True

  def __init__(self, fn: Callable[[Any, Any], Any], batches: Iterable[Any]):
    self.fn = fn
    self.batches = batches

  def __call__(self, at: Any) -> Any:
    return mean_over(self.batches, program(self.fn, self.fn), at)


def mean_over(batches: Iterable[Any], compiled: Callable, *args: Any) -> Any:
  """Returns the mean of ``compiled(*args, batch)`` over the batches."""
  if any(isinstance(x, Tracer) for x in jax.tree.leaves(args)):
    raise TypeError(
      "over_iterable: a loop on the host cannot be traced by jit, grad or vmap. Differentiate"
      " inside, over_iterable(jax.grad(loss_fn), batches), or use over_batches"
    )
  total, value, count = None, None, 0
  for batch in _with_progress(batches):
    value = compiled(*args, batch)
    wide = jax.tree.map(lambda x: jnp.asarray(x, _tree.wide_dtype(x)), value)
    total = wide if total is None else jax.tree.map(jnp.add, total, wide)
    count += 1
  if count == 0:
    raise ValueError("over_iterable: batches is empty; it must hold one batch or more")
  return _tree.cast_like(jax.tree.map(lambda x: x / count, total), value)


def value_and_grad(loss_fn: Callable) -> Callable:
  """``jax.value_and_grad(loss_fn)``; for a mean on the host, the mean over the batches."""
  if not isinstance(loss_fn, HostMean):
    return jax.value_and_grad(loss_fn)
  compiled = program(loss_fn.fn, _value_and_grad, loss_fn.fn)
  return lambda at: mean_over(loss_fn.batches, compiled, at)


def _value_and_grad(loss_fn: Callable, at: Any, batch: Any) -> Any:
  return jax.value_and_grad(loss_fn)(at, batch)


def fori_loop(owner: Any, num_steps: int, body: Callable, start: Any) -> Any:
  """``lax.fori_loop`` from 0; a Python loop if the body calls an ``owner`` that is on the host."""
  if not on_host(owner):
    return jax.lax.fori_loop(0, num_steps, body, start)
  for i in range(num_steps):
    start = body(jnp.int32(i), start)
  return start


def map_over(owner: Any, body: Callable, xs: jax.Array) -> Any:
  """``lax.map``; a Python loop if the body calls an ``owner`` that is on the host."""
  if not on_host(owner):
    return jax.lax.map(body, xs)
  results = [body(x) for x in xs]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def _with_progress(batches: Iterable[Any]) -> Iterable[Any]:
  """Yields the batches, and shows their number twice a second if stderr is a terminal."""
  if not sys.stderr.isatty():
    yield from batches
    return
  length = f" of {len(batches)}" if hasattr(batches, "__len__") else ""  # pyright: ignore[reportArgumentType]
  shown = time.monotonic()
  for i, batch in enumerate(batches):
    if time.monotonic() - shown > 0.5:
      shown = time.monotonic()
      print(f"\r{i} batches{length}", end="", file=sys.stderr, flush=True)
    yield batch
  print("\r\033[K", end="", file=sys.stderr, flush=True)
