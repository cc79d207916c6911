"""Means over batches by a loop on the host, and loops that may contain such a mean."""

import operator
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from flatopt import _results, _tree


class HostMean:
  """The mean of ``fn`` over batches, by a loop on the host; ``over_iterable`` makes it.

  ``fn`` is jitted once, here. So what is compiled lives as long as this object.
  """

  on_host = True

  def __init__(self, fn: Any, batches: Any):
    self.batches = batches
    self._compiled = jax.jit(lambda transform, *args: transform(fn, *args), static_argnums=0)

  def __call__(self, params: Any) -> Any:
    return self.mean(operator.call, params)

  def mean(self, transform: Callable[..., Any], *args: Any) -> Any:
    """Returns the mean of ``transform(fn, *args, batch)`` over the batches.

    ``transform`` must be a function of a module: every other object would be compiled anew.
    """
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(args)):
      raise TypeError(
        "over_iterable: a loop on the host cannot be traced by jit, grad or vmap. Differentiate"
        " inside, over_iterable(jax.grad(loss_fn), batches), or use over_batches"
      )
    total, value, count = None, None, 0
    for batch in _with_progress(self.batches):
      value = self._compiled(transform, *args, batch)
      wide = jax.tree.map(lambda x: jnp.asarray(x, _tree.wide_dtype(x)), value)
      total = wide if total is None else jax.tree.map(jnp.add, total, wide)
      count += 1
    if count == 0:
      raise ValueError("over_iterable: batches is empty; it must hold one batch or more")
    cast = lambda t, x: t.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else t
    return jax.tree.map(lambda t, x: cast(t / count, x), total, value)


def value_and_grad(method: str, loss_fn: Callable) -> Callable:
  """``jax.value_and_grad(loss_fn)``; for a mean on the host, the mean over the batches."""
  if isinstance(loss_fn, HostMean):
    return lambda params: loss_fn.mean(_value_and_grad, params)
  return jax.value_and_grad(lambda params: _results.check_scalar(method, loss_fn(params)))


def _value_and_grad(loss_fn: Callable, params: Any, batch: Any) -> Any:
  return value_and_grad("over_iterable", lambda w: loss_fn(w, batch))(params)


def scan(fn: Any, body: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
  """``jax.lax.scan``; a Python loop if ``fn``, which the body calls, is ``on_host``."""
  if not getattr(fn, "on_host", False):
    return jax.lax.scan(body, carry, xs)
  outputs = []
  for i in range(jax.tree.leaves(xs)[0].shape[0]):
    carry, output = body(carry, jax.tree.map(lambda x, i=i: x[i], xs))
    outputs.append(output)
  return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def _with_progress(batches: Any) -> Iterator[Any]:
  """Yields the batches, and shows their number twice a second if stderr is a terminal."""
  length = f" of {len(batches)}" if hasattr(batches, "__len__") else ""
  if not isinstance(batches, Iterable):  # a data set with random access
    batches = map(batches.__getitem__, range(len(batches)))
  if not sys.stderr.isatty():
    yield from batches
    return
  shown = time.monotonic()
  for i, batch in enumerate(batches):
    if time.monotonic() - shown > 0.5:
      shown = time.monotonic()
      print(f"\r{i} batches{length}", end="", file=sys.stderr, flush=True)
    yield batch
  print("\r\033[K", end="", file=sys.stderr, flush=True)
