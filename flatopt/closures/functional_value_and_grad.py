"""Functional SAM: a ``grad_fn`` that keeps the loss's derivative by the logits fixed."""

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
  """Makes a step that returns loss, gradients, and Functional SAM's ``grad_fn``.

      z = logits_fn(params, inputs)          the logits of the clean pass
      grad_fn(p) = J(p)^T dL/dz              J(p): the Jacobian of the logits at p
                                             dL/dz: the derivative of the loss at z, for every p

  Pass this ``grad_fn`` to ``sam`` to get Functional SAM. Prefer it for language models: there
  plain SAM mostly changes the statistics of the logits. Its authors found it better still with a
  preconditioned ``ascent``. Cost: one gradient, and one more per call of ``grad_fn``; ``dL/dz``,
  which is as large as the logits, stays in memory until the last call.

  Do not use it with ``curvature.hutchinson``, which would see only the Hessian's part from ``J``.

  Args:
    logits_fn: ``(params, inputs) -> logits``, an array or a pytree. Put dropout keys into inputs.
    loss_fn: ``(logits, labels) -> loss``, a scalar. Labels may be a pytree (weights of examples).
    transform: as in ``value_and_grad``.

  Returns:
    ``step_fn(params, inputs, labels) -> (loss, grads, grad_fn)``. ``grad_fn(params)`` is ``grads``.

  Source:
    Singh, Mobahi, Agarwala, Dauphin 2025, arXiv 2502.02407. We did not find their code and
    checked the equation against a public description of the algorithm.

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
      # Inside shard_map the first gradient is per device if the params vary; so must this one be.
      p = _devices.varying_like(p, params)
      _, pull_back = jax.vjp(lambda p: logits_fn(p, inputs), p)
      return transform(*pull_back(cotangent))

    return loss, transform(*pull_back(cotangent)), grad_fn

  return step_fn
