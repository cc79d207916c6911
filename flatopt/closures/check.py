"""A check for debugging: ``grad_fn(params)`` must be equal to the incoming gradients."""

import jax
import jax.numpy as jnp
from jax.core import Tracer

from flatopt import _arguments, _results, _tree
from flatopt._typing import GradFn, Params

_CAUSES_WHEN_PARALLEL = (
  "one gradient was clipped, scaled or unscaled (do it in transform of closures.value_and_grad);"
  " the loss is a sum in one pass and a mean in the other; one pass takes a mean or a sum over"
  " devices"
)
_CAUSES = (
  "another batch; another dropout key, or a stateful random source such as nnx.Rngs (draw keys"
  " before the loss); training mode in one pass only; clipping by leaf or by value, weight decay,"
  " masks or a cast outside transform of closures.value_and_grad; optax.MultiSteps around the"
  " method (accumulate gradients with closures.micro_value_and_grad)"
)
_CAUSES_WHEN_UNREPEATABLE = (
  "a stateful random source in the loss, such as nnx.Rngs or a global key generator: draw keys"
  " before the loss and pass them; or another batch at every call"
)


def check(grads: Params, params: Params, grad_fn: GradFn, *, rtol: float = 1e-3) -> None:
  """Raises an error if ``grad_fn(params)`` and ``grads`` differ.

      ||grad_fn(params) - grads|| <= rtol * max(||grad_fn(params)||, ||grads||)

  Methods use the difference ``grad_fn(w + eps) - grads`` as a measure of sharpness. If something
  changes only one of the two, this difference is wrong, without an error in training. So call this
  check once, on the first batch, outside ``jit``. Cost: one gradient, and one more for an error.

  Args:
    grads: the gradients that you pass to ``update``.
    params: the params of the clean pass.
    grad_fn: the closure that you pass to ``update``.
    rtol: largest relative difference that is allowed, >= 0. Functions that are compiled
      separately round differently, in bfloat16 by about 1e-2.

  Raises:
    ValueError: the gradients differ. The error says by how much, whether they are parallel, which
      leaf differs most, and the usual causes. Also if the trees do not match, if a gradient is not
      finite, or under ``jit``.
    TypeError: an argument is of the wrong type.

  Example:
    >>> import jax, jax.numpy as jnp, flatopt
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> w = jnp.ones(3)
    >>> flatopt.closures.check(grad_fn(w), w, grad_fn)
    >>> try:
    ...   flatopt.closures.check(grad_fn(w) / 12, w, grad_fn)
    ... except ValueError as error:
    ...   print("parallel" in str(error))
    True
  """
  _arguments.check_number("check", "rtol", rtol, low=0)
  _arguments.check_params("check", params)
  _arguments.check_closure("check", "grad_fn", grad_fn)
  _arguments.check_same_tree("check", "grads", grads, params)
  again = grad_fn(params)
  _results.check_gradients("check", "grad_fn", again, params)
  if any(isinstance(x, Tracer) for x in jax.tree.leaves((grads, params, again))):
    raise ValueError("check: its arguments are traced; call it outside jit, on concrete arrays")
  _results.check_finite("check", "grads", grads)
  _results.check_finite("check", "the result of grad_fn", again)

  distance = _relative_distance(grads, again)
  if distance <= rtol:
    return
  if _relative_distance(again, grad_fn(params)) > rtol:
    how, causes = "Two calls of grad_fn differ, too.", _CAUSES_WHEN_UNREPEATABLE
  elif _are_parallel(grads, again, rtol):
    how, causes = "They are parallel.", _CAUSES_WHEN_PARALLEL
  else:
    how, causes = "They are not parallel.", _CAUSES
  raise ValueError(
    f"check: grad_fn(params) is not grads: their difference is {distance:.3g} of the larger one's"
    f" norm (rtol={rtol:g}); the norm of grads is {float(_tree.norm(grads)):.3g}, that of"
    f" grad_fn(params) {float(_tree.norm(again)):.3g}. {how} {_worst_leaf(grads, again)} Likely"
    f" causes: {causes}."
  )


def _distance(a: Params, b: Params, scale: float = 1.0) -> float:
  """Returns ``||a - scale * b||``, computed in float32 or wider."""

  def subtract(x, y):
    dtype = _tree.wide_dtype(x, y)
    return jnp.asarray(x, dtype) - scale * jnp.asarray(y, dtype)

  return float(_tree.norm(jax.tree.map(subtract, a, b)))


def _relative_distance(a: Params, b: Params) -> float:
  """Returns ``||a - b||``, relative to the larger norm."""
  larger = max(float(_tree.norm(a)), float(_tree.norm(b)))
  return _distance(a, b) / larger if larger else 0.0


def _are_parallel(grads: Params, again: Params, rtol: float) -> bool:
  """Whether one is a positive multiple of the other, up to the relative error ``rtol``."""
  scale = float(_tree.projection_coefficient(grads, again))
  return scale > 0 and _distance(grads, again, scale) <= rtol * float(_tree.norm(grads))


def _worst_leaf(grads: Params, again: Params) -> str:
  """Returns a sentence about the leaf that differs most."""
  named = jax.tree_util.tree_leaves_with_path(grads)
  leaves = [(*pair, b) for pair, b in zip(named, jax.tree.leaves(again), strict=True)]
  path, a, b = max(leaves, key=lambda leaf: _distance(*leaf[1:]))
  seen, found = jnp.result_type(a), jnp.result_type(b)
  dtypes = "" if seen == found else f", {seen} against {found}"
  return (
    f"Most of it is in grads{jax.tree_util.keystr(path)} of shape {jnp.shape(a)}, where it is"
    f" {_relative_distance(a, b):.3g} of the larger norm{dtypes}."
  )
