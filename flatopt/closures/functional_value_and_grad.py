"""Functional SAM: the closure keeps the derivative by the logits, and moves the Jacobian."""

from collections.abc import Callable
from typing import Any

import jax

from flatopt import _devices
from flatopt._typing import GradFn, Params


def functional_value_and_grad(
  logits_fn: Callable[[Params, Any], Any],
  loss_fn: Callable[[Any, Any], jax.Array],
  *,
  transform: Callable[[Params], Params] | None = None,
) -> Callable[[Params, Any, Any], tuple[jax.Array, Params, GradFn]]:
  """Value, gradients and Functional SAM's closure: ``grad_fn(p) = J(p)^T dL/dz``.

  ``J(p)`` is the Jacobian of the logits at the params ``p``, and ``dL/dz`` the derivative of the
  loss by the logits ``z`` of the clean pass, which does not move with ``p``. With ``sam`` this is
  Functional SAM, for language models, where plain SAM mostly changes the statistics of the
  logits. Its authors found it better still with a preconditioned ascent. Cost: that of
  ``value_and_grad``; in memory ``dL/dz``, as large as the logits, lives until the last call.

  ``curvature.hutchinson`` on this closure would estimate the functional part of the Hessian
  alone, because a product with it differentiates ``J(p)`` only.

  Args:
    logits_fn: ``(params, inputs) -> logits``, an array or a pytree; dropout keys go into inputs.
    loss_fn: ``(logits, labels) -> loss``, a scalar; labels may be a pytree, weights included.
    transform: ``grads -> grads``, applied to both gradients: clipping, casts, ``pmean``.

  Returns:
    ``step_fn(params, inputs, labels) -> (loss, grads, grad_fn)``; at the same params ``grad_fn``
    gives ``grads``.

  Source:
    Singh, Mobahi, Agarwala, Dauphin 2025, arXiv 2502.02407. Their code was not found; the
    equation was checked against a public description of the algorithm.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> logits_fn = lambda w, x: jnp.tanh(x @ w)
    >>> loss_fn = lambda logits, y: jnp.mean((logits - y) ** 2)
    >>> step_fn = flatopt.closures.functional_value_and_grad(logits_fn, loss_fn)
    >>> w, x, y = jnp.ones(2), jnp.eye(2), jnp.zeros(2)
    >>> loss, grads, grad_fn = step_fn(w, x, y)
    >>> optimizer = optax.chain(flatopt.sam(0.05), optax.adamw(1e-3))
    >>> updates, _ = optimizer.update(grads, optimizer.init(w), w, grad_fn=grad_fn)
  """
  transform = transform or (lambda grads: grads)

  def step_fn(params: Params, inputs: Any, labels: Any) -> tuple[jax.Array, Params, GradFn]:
    logits, pull_back = jax.vjp(lambda p: logits_fn(p, inputs), params)
    loss, cotangent = jax.value_and_grad(loss_fn)(logits, labels)

    def grad_fn(p: Params) -> Params:
      # Inside shard_map, the first gradient is per device where its params vary; so is this one.
      p = _devices.varying_like(p, params)
      _, pull_back = jax.vjp(lambda p: logits_fn(p, inputs), p)
      return transform(*pull_back(cotangent))

    return loss, transform(*pull_back(cotangent)), grad_fn

  return step_fn
