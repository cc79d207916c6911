"""Squared gradients as estimates of the curvature's diagonal."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _results, _tree
from flatopt._typing import AxisName


class EmpiricalFisherState(_method.CountState):
  """The number of estimates so far."""

  method = "empirical_fisher"


class GaussNewtonBartlettState(_method.CountState):
  """The number of estimates so far."""

  method = "gauss_newton_bartlett"


def empirical_fisher(*, axis_name: AxisName = None) -> optax.GradientTransformationExtraArgs:
  """Estimates the diagonal of the Hessian by the squared gradient of the loss.

      g = grad_fn(params)
      output: g * g

  This is a rough estimate: where the gradient is 0 it is 0, whatever the curvature. Use it only if
  you have neither sampled labels nor Hessian-vector products. Cost: one gradient per estimate.

  Args:
    axis_name: mapped axis under ``pmap`` or ``shard_map``; the estimates are averaged over it.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``. It returns
    the estimate, a pytree like params, and does not read ``updates``.

  State:
    count: int32, shape ().

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Kunstner, Balles, Hennig 2019, arXiv 1905.12558, discuss its limits. Deviation: this squares
    the gradient of the batch, not the gradients of single examples.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import curvature
    >>> estimator = curvature.empirical_fisher()
    >>> w = jnp.array([1.0, 2.0])
    >>> grad_fn = jax.grad(lambda w: 0.5 * jnp.sum(w**2))
    >>> estimator.update(w, estimator.init(w), w, grad_fn=grad_fn)[0].tolist()
    [1.0, 4.0]
  """
  gradient_fn = lambda grad_fn, count: grad_fn
  return _squared_gradient(EmpiricalFisherState, "grad_fn", 1, gradient_fn, axis_name)


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
  name = GaussNewtonBartlettState.method
  _arguments.check_integer(name, "batch_size", batch_size, minimum=1)
  _arguments.check_key(name, key)

  def gradient_fn(sampled_grad_fn, count):
    return lambda params: sampled_grad_fn(params, _arguments.draw_key(name, key, count))

  return _squared_gradient(
    GaussNewtonBartlettState, "sampled_grad_fn", batch_size, gradient_fn, axis_name
  )


def _squared_gradient(
  state_type: Any,
  closure: str,
  factor: int,
  gradient_fn: Callable[..., Callable],
  axis_name: AxisName,
) -> optax.GradientTransformationExtraArgs:
  """Makes an estimator whose output is ``factor * g * g``, with ``g = gradient_fn(closure, count)``."""
  name = state_type.method
  _arguments.check_axes(name, axis_name)

  def init(params):
    return state_type(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    grad_fn = gradient_fn(_method.closure(name, closure, extra_args), state.count)
    grads = grad_fn(_devices.varying(params, axis_name))
    _results.check_gradients(name, closure, grads, params)
    square = lambda g: factor * jnp.square(g.astype(_tree.wide_dtype(g)))
    return _devices.mean(jax.tree.map(square, grads), axis_name), state

  return _method.transformation(state_type, init, update, place="curvature")
