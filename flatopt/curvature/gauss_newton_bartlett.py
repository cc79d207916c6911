"""The Gauss-Newton-Bartlett estimator of the diagonal of the Gauss-Newton matrix."""

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _results, _tree
from flatopt._typing import AxisName


class GaussNewtonBartlettState(_method.CountState):
  """The number of estimates so far."""

  method = "gauss_newton_bartlett"


def gauss_newton_bartlett(
  batch_size: int = 1, *, key: int | jax.Array = 0, axis_name: AxisName = None
) -> optax.GradientTransformationExtraArgs:
  """Estimates the diagonal of the Gauss-Newton matrix by a squared gradient with sampled labels.

      g = sampled_grad_fn(params, fold_in(key, t))
      output: batch_size * g * g

  Prefer it for classifiers and language models: it is never negative and needs a single gradient.
  The experiments of the IRE paper use it. Cost: one gradient per estimate.

  Args:
    batch_size: number of labels that one call samples independently (for a language model, the
      number of tokens), >= 1. With this factor, the estimate is unbiased for the Gauss-Newton
      matrix of the mean loss. IRE uses only the order of the entries and does not need it.
    key: int or JAX key; estimate number t uses ``fold_in(key, t)``.
    axis_name: mapped axis under ``pmap`` or ``shard_map``; the estimates are averaged over it. All
      devices get the same key; the closure can fold the device's index into it.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``sampled_grad_fn(params, key) ->
    grads`` (see ``flatopt.closures.sampled_label_grad_fn``). It returns the estimate, a pytree like
    params, and does not read ``updates``.

  State:
    count: int32, shape ().

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Liu, Li, Hall, Liang, Ma 2023 (Sophia), arXiv 2305.14342, algorithm 2.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import closures, curvature
    >>> x = jnp.ones((4, 3))
    >>> sampled_grad_fn = closures.sampled_label_grad_fn(lambda w, x: x @ w, x)
    >>> estimator = curvature.gauss_newton_bartlett(batch_size=4)
    >>> w = jnp.zeros((3, 2))
    >>> estimate, _ = estimator.update(
    ...   w, estimator.init(w), w, sampled_grad_fn=sampled_grad_fn
    ... )
    >>> bool((estimate >= 0).all())
    True
  """
  _arguments.check_integer("gauss_newton_bartlett", "batch_size", batch_size, minimum=1)
  _arguments.check_key("gauss_newton_bartlett", key)
  _arguments.check_axes("gauss_newton_bartlett", axis_name)

  def init(params):
    return GaussNewtonBartlettState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    del updates, step
    name = "gauss_newton_bartlett"
    sampled_grad_fn = _method.closure(name, "sampled_grad_fn", extra_args)
    params = _devices.varying(params, axis_name)
    draw_key = _arguments.draw_key("gauss_newton_bartlett", key, state.count)
    grads = sampled_grad_fn(params, draw_key)
    _results.check_gradients("gauss_newton_bartlett", "sampled_grad_fn", grads, params)
    square = lambda g: batch_size * jnp.square(g.astype(_tree.wide_dtype(g)))
    estimate = jax.tree.map(square, grads)
    new_state = GaussNewtonBartlettState(_tree.increment(state.count))
    return _devices.mean(estimate, axis_name), new_state

  return _method.transformation(GaussNewtonBartlettState, init, update, place="curvature")
