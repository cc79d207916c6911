"""Means over batches by a loop on the host, and the loops of the measures that call them."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from flatopt import _tree


class HostMean:
  """``fn``'s mean over batches, by a loop on the host; ``over_iterable`` makes it."""

  def __init__(self, fn: Callable[[Any, Any], Any], batches: Iterable[Any]):
    self.fn = fn
    self.batches = batches
    self._compiled = jax.jit(fn)

  def __call__(self, at: Any) -> Any:
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(at)):
      raise TypeError(
        "over_iterable: a loop on the host cannot be traced by jit, grad or vmap. Differentiate"
        " inside, over_iterable(jax.grad(loss_fn), batches), or use over_batches"
      )
    total, value, count = None, None, 0
    for batch in _with_progress(self.batches):
      value = self._compiled(at, batch)
      wide = jax.tree.map(lambda x: jnp.asarray(x, _tree.wide_dtype(x)), value)
      total = wide if total is None else jax.tree.map(jnp.add, total, wide)
      count += 1
    if count == 0:
      raise ValueError("over_iterable: batches is empty; it must hold one batch or more")
    return _tree.cast_like(jax.tree.map(lambda x: x / count, total), value)


def lift(transform: Callable[[Callable], Callable], fn: Callable) -> Callable:
  """``transform(fn)`` for a linear transform of functions, batch by batch on the host."""
  if not isinstance(fn, HostMean):
    return transform(fn)
  return HostMean(lambda at, batch: transform(lambda w: fn.fn(w, batch))(at), fn.batches)


def fori_loop(fn: Callable, num_steps: int, body: Callable, start: Any) -> Any:
  """``lax.fori_loop`` from 0, or a Python loop where the body calls a mean on the host."""
  if not isinstance(fn, HostMean):
    return jax.lax.fori_loop(0, num_steps, body, start)
  for i in range(num_steps):
    start = body(jnp.int32(i), start)
  return start


def map_over(fn: Callable, body: Callable, xs: jax.Array) -> Any:
  """``lax.map``, or a Python loop where the body calls a mean on the host."""
  if not isinstance(fn, HostMean):
    return jax.lax.map(body, xs)
  results = [body(x) for x in xs]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def _with_progress(batches: Iterable[Any]) -> Iterable[Any]:
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
