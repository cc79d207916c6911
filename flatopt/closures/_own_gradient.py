"""A function with a gradient of its own, in forward and in reverse mode."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import jaxpr_as_fun

from flatopt import _devices, _tree

Leaves = list[jax.Array]

_CLOSED_OVER = (
  "sharp_loss: loss_fn closes over an array that is differentiated outside; pass it as an argument"
  " instead: sharp_loss(loss_fn)(params, array)"
)


def is_inexact(x: Any) -> bool:
  is_number = isinstance(x, jax.Array | np.ndarray | np.generic | float | complex)
  return is_number and jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def with_gradient(
  evaluate: Callable[..., tuple[jax.Array, Any]],
  gradient: Callable[[Callable[[Leaves], Leaves], Leaves, Leaves], Leaves],
  weights: Leaves,
  arrays: Leaves,
) -> tuple[jax.Array, Any]:
  """Returns ``evaluate(weights, arrays)``, which is ``(loss, aux)``, with another gradient.

  The derivative by the weights is ``gradient(gradient_at, weights, grads)``. ``gradient_at`` and
  ``grads`` are the gradient of ``evaluate``, which is also the derivative by the arrays. Aux is
  not differentiated. If losses differ between the devices of ``shard_map``, the gradients are of
  each device's own loss.
  """
  try:
    weights, arrays = _varying_as_loss(evaluate, weights, arrays)
    program, captured = _with_captured(evaluate, weights, arrays)
    apply = jax.custom_jvp(program)
    apply.defjvp(functools.partial(_derivative, program, gradient), symbolic_zeros=True)
    return apply(weights, arrays, captured)
  except jax.errors.UnexpectedTracerError as error:
    raise ValueError(_CLOSED_OVER) from error


def _varying_as_loss(evaluate, weights, arrays):
  """Inside ``shard_map``, marks the arguments as varying over the axes that the loss varies over."""
  if not jax.sharding.get_abstract_mesh().manual_axes:
    return weights, arrays
  loss, _ = jax.eval_shape(evaluate, weights, arrays)
  return jax.tree.map(lambda x: _devices.varying_like(x, loss), (weights, arrays))


def _with_captured(evaluate, weights, arrays):
  """Returns ``(weights, arrays, captured) -> (loss, aux)``, and the arrays it closes over.

  Inside ``jit``, ``scan`` and the like the derivative may be taken when the traced arrays that the
  loss closes over are gone, so they become arguments. Elsewhere ``captured`` is empty.
  """
  if not isinstance(jnp.zeros(()), Tracer):
    return lambda weights, arrays, captured: evaluate(weights, arrays), []
  program, shapes = jax.make_jaxpr(evaluate, return_shape=True)(weights, arrays)

  def of_captured(weights, arrays, captured):
    outputs = jaxpr_as_fun(program.replace(consts=captured))(*weights, *arrays)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

  return of_captured, program.consts


def _derivative(program, gradient, primals, tangents):
  """The rule for ``jax.custom_jvp``: the tangent is the inner product of gradient and direction."""
  leaves, structure = jax.tree.flatten(primals)
  directions = structure.flatten_up_to(tangents)
  moves = [
    is_inexact(x) and not isinstance(t, SymbolicZero)
    for x, t in zip(leaves, directions, strict=True)
  ]
  num_weights = len(primals[0]) if any(moves[: len(primals[0])]) else 0
  moves[:num_weights] = [True] * num_weights  # the method needs the whole gradient
  index = [i for i, on in enumerate(moves) if on]

  def loss_at(moved):
    values = leaves.copy()
    for i, x in zip(index, moved, strict=False):  # all that move, or the weights, which come first
      values[i] = x
    return program(*structure.unflatten(values))

  moving = [leaves[i] for i in index]
  (loss, aux), grads = jax.value_and_grad(loss_at, has_aux=True)(moving)
  if num_weights:
    gradient_at = lambda weights: jax.grad(loss_at, has_aux=True)(weights)[0]
    grads[:num_weights] = gradient(gradient_at, moving[:num_weights], grads[:num_weights])
  if any(_devices.varying_like(x, loss) is not x for x in moving):
    raise ValueError(_CLOSED_OVER)  # its gradient is already summed over the devices
  loss, aux, grads = _only_once((loss, aux, grads))
  slope = _slope(loss, grads, [directions[i] for i in index])
  return (loss, aux), (slope, jax.tree.map(_zero_tangent, aux))


def _slope(loss: jax.Array, grads: Leaves, directions: list[Any]) -> jax.Array:
  """Returns the inner product, of the type of the loss."""
  slope = jnp.zeros_like(loss)
  for g, t in zip(grads, directions, strict=True):
    if not isinstance(t, SymbolicZero):
      dtype = g.dtype if jnp.iscomplexobj(g) else _tree.wide_dtype(g)
      product = g.astype(dtype) * t.astype(dtype)
      slope += _devices.sum_like(jnp.sum(jnp.real(product)), loss).astype(loss.dtype)
  return slope


def _zero_tangent(x: jax.Array) -> Any:
  if is_inexact(x):
    return jnp.zeros_like(x)
  return np.zeros(x.shape, jax.dtypes.float0)


@jax.custom_jvp
def _only_once(tree: Any) -> Any:
  return tree


@_only_once.defjvp
def _refuse(primals, tangents):
  raise TypeError(
    "sharp_loss: it can be differentiated once only, because its derivative is a gradient at perturbed"
    " params; differentiate loss_fn itself instead"
  )
