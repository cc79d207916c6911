"""A function with a gradient of its own, in forward and in reverse mode."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero, zero_from_primal
from jax.extend.core import jaxpr_as_fun

from flatopt import _devices, _tree
from flatopt._typing import GradFn, Params


def is_inexact(x: Any) -> bool:
  is_number = isinstance(x, jax.Array | np.ndarray | np.generic | float | complex)
  return is_number and jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def with_gradient(
  evaluate: Callable[..., tuple[jax.Array, Any]],
  gradient: Callable[[GradFn, Params, Params], Params],
  weights: Params,
  arrays: list[jax.Array],
) -> tuple[jax.Array, Any]:
  """Returns ``evaluate(weights, arrays)``, which is ``(loss, aux)``, with another gradient.

  The derivative by the weights is ``gradient(grad_fn, weights, grads)``. ``grad_fn`` and ``grads``
  are the gradient of ``evaluate``, which is also the derivative by the arrays. Aux is not
  differentiated. If losses differ between the devices of ``shard_map``, the gradients are of each
  device's own loss.
  """
  try:
    if jax.sharding.get_abstract_mesh().manual_axes:
      loss, _ = jax.eval_shape(evaluate, weights, arrays)
      weights, arrays = jax.tree.map(lambda x: _devices.varying_like(x, loss), (weights, arrays))
    program, captured = _with_captured(evaluate, weights, arrays)
    apply = jax.custom_jvp(program)
    apply.defjvp(functools.partial(_derivative, program, gradient), symbolic_zeros=True)
    return apply(weights, arrays, captured)
  except jax.errors.UnexpectedTracerError as error:
    raise ValueError(_CLOSED_OVER) from error


def _with_captured(evaluate, weights, arrays):
  """Returns ``(weights, arrays, captured) -> (loss, aux)``, and the arrays it closes over.

  Inside ``jit``, ``scan`` and the like the derivative may be taken when the traced arrays that the
  loss closes over are gone, so they become arguments. Elsewhere ``captured`` is empty.
  """
  if not isinstance(jnp.zeros(()), Tracer):
    return lambda weights, arrays, captured: evaluate(weights, arrays), []
  # Not jax.closure_convert, which leaves integers (labels, keys) where they are.
  program, shapes = jax.make_jaxpr(evaluate, return_shape=True)(weights, arrays)

  def of_captured(weights, arrays, captured):
    leaves = jax.tree.leaves((weights, arrays))
    outputs = jaxpr_as_fun(program.replace(consts=captured))(*leaves)
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
  of_weights = jax.tree.structure(primals[0])
  n = of_weights.num_leaves if any(moves[: of_weights.num_leaves]) else 0
  index = [i for i, on in enumerate(moves) if on or i < n]  # the method needs the whole gradient

  def loss_at(moved):
    values = leaves.copy()
    for i, x in zip(index, moved, strict=False):  # all that move, or the weights, which come first
      values[i] = x
    return program(*structure.unflatten(values))

  def grad_fn(weights):
    return of_weights.unflatten(jax.grad(loss_at, has_aux=True)(jax.tree.leaves(weights))[0])

  moving = [leaves[i] for i in index]
  (loss, aux), grads = jax.value_and_grad(loss_at, has_aux=True)(moving)
  if any(_devices.varying_like(x, loss) is not x for x in moving):
    raise ValueError(_CLOSED_OVER)  # its gradient is already summed over the devices
  if n:
    grads[:n] = jax.tree.leaves(gradient(grad_fn, primals[0], of_weights.unflatten(grads[:n])))
  loss, aux, grads = _only_once((loss, aux, grads))
  slope = jnp.zeros_like(loss)
  for g, i in zip(grads, index, strict=True):
    if moves[i]:
      dtype = g.dtype if jnp.iscomplexobj(g) else _tree.wide_dtype(g)
      product = jnp.real(g.astype(dtype) * directions[i].astype(dtype))
      slope += _devices.sum_like(jnp.sum(product), loss).astype(loss.dtype)
  return (loss, aux), (slope, jax.tree.map(zero_from_primal, aux))


_CLOSED_OVER = (
  "sharp_loss: loss_fn closes over an array that is differentiated outside; pass it as an argument"
  " instead: sharp_loss(loss_fn)(params, array)"
)


@jax.custom_jvp
def _only_once(tree: Any) -> Any:
  return tree


@_only_once.defjvp
def _refuse(primals, tangents):
  raise TypeError(
    "sharp_loss: it can be differentiated once only, because its derivative is a gradient at perturbed"
    " params; differentiate loss_fn itself instead"
  )
