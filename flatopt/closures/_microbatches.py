"""Microbatches: cutting a batch, and mean loss and gradients with one microbatch in memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _devices, _tree
from flatopt._typing import GradFn, Params

# (params, state, microbatch) -> (loss, (aux, state)); the state goes on to the next microbatch.
LossAt = Callable[[Params, Any, Any], tuple[jax.Array, tuple[Any, Any]]]
WeightFn = Callable[[Any], jax.typing.ArrayLike]


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


def step(
  name: str,
  loss_at: LossAt,
  params: Params,
  state: Any,
  batch: Any,
  num_microbatches: int,
  *,
  transform: Callable[[Params], Params],
  weight_fn: WeightFn | None = None,
  unroll: int | bool = 1,
) -> tuple[jax.Array, Any, Any, Params, GradFn]:
  """Returns loss, stacked aux, new state, gradients and ``grad_fn``, which repeats the pass."""
  microbatches = cut(name, "batch", batch, num_microbatches)
  weights = _weights(name, weight_fn, microbatches)

  def without_aux(params, state, microbatch):
    loss, (_, state) = loss_at(params, state, microbatch)
    return loss, (None, state)

  def grad_fn(p: Params) -> Params:
    # Inside shard_map the first gradient is per device if the params vary; so must this one be.
    p = _devices.varying_like(p, params)
    return transform(accumulate(without_aux, p, state, microbatches, weights, unroll)[-1])

  loss, aux, moved, grads = accumulate(loss_at, params, state, microbatches, weights, unroll)
  return loss, aux, moved, transform(grads), grad_fn


def accumulate(
  loss_at: LossAt,
  params: Params,
  state: Any,
  microbatches: Any,
  weights: jax.Array,
  unroll: int | bool,
) -> tuple[jax.Array, Any, Any, Params]:
  """Returns the mean loss, stacked aux, the last state, and the mean gradients.

  The means are weighted and are added up in float32 or wider.
  """
  clean_pass = jax.value_and_grad(loss_at, has_aux=True)
  sum_of_weights = jnp.sum(weights)

  def add(carry, part):
    total, state = carry
    microbatch, weight = part
    (loss, (aux, state)), grads = clean_pass(params, state, microbatch)

    def add_leaf(t, g):
      return t + _weighted(weight, sum_of_weights, g.astype(t.dtype))

    return (jax.tree.map(add_leaf, total, grads), state), (loss, aux)

  zeros = jax.tree.map(lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w)), params)
  carry, parts = (_devices.varying_like(zeros, params), state), (microbatches, weights)
  if len(weights) == 1:  # XLA:CPU is slow with convolutions inside a loop
    carry, outputs = add(carry, jax.tree.map(lambda x: x[0], parts))
    losses, aux = jax.tree.map(lambda x: jnp.asarray(x)[None], outputs)
  else:
    carry, (losses, aux) = jax.lax.scan(add, carry, parts, unroll=unroll)
  total, state = carry
  wide = losses.astype(_tree.wide_dtype(losses))
  loss = jnp.sum(_weighted(weights, sum_of_weights, wide)).astype(losses.dtype)
  return loss, aux, state, _tree.cast_like(total, params)


def _weights(name: str, weight_fn: WeightFn | None, microbatches: Any) -> jax.Array:
  """Returns one weight per microbatch; integers stay exact."""
  num_microbatches = len(jax.tree.leaves(microbatches)[0])
  if weight_fn is None:
    return jnp.ones(num_microbatches, jnp.int32)
  weights = jnp.asarray(jax.lax.map(weight_fn, microbatches))
  if weights.shape != (num_microbatches,):
    raise TypeError(f"{name}: weight_fn must return a scalar; got shape {weights.shape[1:]}")
  is_floating = jnp.issubdtype(weights.dtype, jnp.floating)
  return weights.astype(_tree.wide_dtype(weights) if is_floating else jnp.int32)


def _weighted(weight: jax.Array, sum_of_weights: jax.Array, x: jax.Array) -> jax.Array:
  """Returns the part of ``x`` in the mean. It is 0 if the weight is 0, even if x is not finite."""
  share = weight.astype(x.dtype) / sum_of_weights.astype(x.dtype)
  return jnp.where(share == 0, 0, share * x)
