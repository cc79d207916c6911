"""Microbatches: cutting a batch, and the mean of their gradients with one in memory at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _tree
from flatopt._typing import Params


def cut(name: str, argument: str, batch: Any, num_microbatches: int) -> Any:
  """Returns the microbatches, stacked. Example i is in microbatch i modulo their number.

  So if a batch is split over devices, every microbatch is too, and nothing has to be gathered.
  """
  _arguments.check_integer(name, "num_microbatches", num_microbatches, minimum=1)
  shapes = [jnp.shape(x) for x in jax.tree.leaves(batch)]
  if len({shape[:1] for shape in shapes} - {()}) != 1 or () in shapes:
    raise ValueError(
      f"{name}: all leaves of {argument} must have the same leading axis; got shapes {shapes}"
    )
  length = shapes[0][0]
  if length % num_microbatches:
    raise ValueError(
      f"{name}: num_microbatches must divide the length {length} of {argument};"
      f" got {num_microbatches}"
    )
  size = length // num_microbatches
  return jax.tree.map(
    lambda x: jnp.swapaxes(jnp.reshape(x, (size, num_microbatches, *x.shape[1:])), 0, 1), batch
  )


def mean_gradient(
  value_and_grad: Callable[[Params, Any], tuple[Any, Params]],
  params: Params,
  microbatches: Any,
  unroll: int | bool,
) -> tuple[Any, Params]:
  """Returns the stacked values, and the mean of the gradients, added in float32 or wider.

  ``value_and_grad(params, microbatch)`` returns ``(value, grads)``.
  """

  def add(total, microbatch):
    value, grads = value_and_grad(params, microbatch)
    return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, grads), value

  zeros = jax.tree.map(lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w)), params)
  zeros = _devices.varying_like(zeros, params)
  total, values = jax.lax.scan(add, zeros, microbatches, unroll=unroll)
  num_microbatches = jax.tree.leaves(microbatches)[0].shape[0]
  return values, _tree.cast_like(optax.tree.scale(1 / num_microbatches, total), params)
