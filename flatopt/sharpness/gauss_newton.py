"""The Gauss-Newton matrix of a model and a loss, as an operator."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _forward_mode, _results
from flatopt._typing import Params
from flatopt.sharpness.operator import Operator

_REMEDY = 'pass gauss_newton(logits_fn, loss_fn, mode="reverse-reverse")'


def gauss_newton(
  logits_fn: Callable[..., Any],
  loss_fn: Callable[..., jax.Array],
  *,
  mode: str = "forward-reverse",
) -> Operator:
  """Makes the Gauss-Newton matrix as an operator: the Hessian without the model's own curvature.

      G v = J' H_L J v        J: the derivative of logits_fn at params
                              H_L: the Hessian of loss_fn at the logits

  The Hessian of the loss is the sum of G and a term with the second derivatives of the model. That
  term is 0 if the model is linear, or if the derivative of the loss by the logits is 0. If the loss
  is convex in the logits, as cross entropy and squared error are, then G has no negative
  eigenvalues. For cross entropy, G is the Fisher information. All measures that take a ``grad_fn``
  accept this operator in its place. Cost: less than 2 gradients per product.

  Args:
    logits_fn: ``params -> logits`` for one batch; the logits are any pytree of floating arrays.
    loss_fn: ``logits -> scalar`` for the same batch; it contains the labels. For ``over_batches``
      and ``over_iterable``, give both functions the batch as their last argument:
      ``(params, batch) -> logits`` and ``(logits, batch) -> scalar``.
    mode: "forward-reverse" (``jax.jvp``), or "reverse-reverse" (only ``jax.vjp``) for models and
      losses whose custom gradients have no forward mode.

  Returns:
    An operator. Operators of the same functions and mode are equal and share compiled programs;
    see ``hessian``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Source:
    Schraudolph 2002, doi 10.1162/08997660260028683.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> inputs, targets = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> logits_fn = lambda w: inputs @ w
    >>> loss_fn = lambda logits: jnp.sum((logits - targets) ** 2) / 2
    >>> operator = sharpness.gauss_newton(logits_fn, loss_fn)
    >>> float(sharpness.trace(operator, jnp.zeros(2), key=0).mean)
    5.0
  """
  _forward_mode.check_mode("gauss_newton", mode)
  for name, fn in (("logits_fn", logits_fn), ("loss_fn", loss_fn)):
    if not callable(fn):
      raise TypeError(f"gauss_newton: {name} must be a function; got {_arguments.describe(fn)}")
  return GaussNewton(logits_fn, loss_fn, mode)


@dataclasses.dataclass(frozen=True)
class GaussNewton(Operator):
  """The operator that ``gauss_newton`` makes."""

  logits_fn: Callable[..., Any]
  loss_fn: Callable[..., jax.Array]
  mode: str

  def product(self, method: str, params: Params, vector: Params, *batch: Any) -> Params:
    logits_fn = lambda w: self.logits_fn(w, *batch)
    loss_fn = lambda z: _results.check_scalar(method, self.loss_fn(z, *batch))
    logits, transposed = jax.vjp(logits_fn, params)
    if self.mode == "forward-reverse":
      jvp = lambda fn, at, v: _forward_mode.jvp(method, _REMEDY, fn, (at,), (v,))[1]
      tangent = jvp(logits_fn, params, vector)
      return transposed(jvp(jax.grad(loss_fn), logits, tangent))[0]
    # J is the transpose of the linear map u -> J' u, and H_L is symmetric, so vjps are enough.
    zeros = jax.tree.map(jnp.zeros_like, logits)
    (tangent,) = jax.vjp(lambda u: transposed(u)[0], zeros)[1](vector)
    return transposed(jax.vjp(jax.grad(loss_fn), logits)[1](tangent)[0])[0]
