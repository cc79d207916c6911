"""The gradient of a whole batch, one microbatch in memory at a time."""

from collections.abc import Callable
from typing import Any

import jax

from flatopt._typing import GradFn, Params
from flatopt.closures import _microbatches


def micro_grad_fn(
  loss_fn: Callable[[Params, Any], jax.Array],
  batch: Any,
  num_microbatches: int,
  *,
  unroll: int | bool = 1,
) -> GradFn:
  """Makes the gradient of the mean loss over a batch, with one microbatch in memory at a time.

      grad_fn(params) = mean over the microbatches of the gradient of loss_fn(params, microbatch)

  Use it to accumulate gradients. ``optax.MultiSteps`` around the optimizer does not work with
  sharpness-aware methods, because they need the same batch at other params. If you also need the
  loss, use ``micro_value_and_grad``. Gradients are added in float32 or wider. Cost: one gradient of
  the whole batch per call of ``grad_fn``.

  Args:
    loss_fn: ``(params, microbatch) -> scalar``, a mean over the examples of the microbatch.
    batch: pytree of arrays with the same leading axis of examples.
    num_microbatches: number of equal parts to cut the batch into, >= 1; it must divide the length
      of the batch. Example i is in part i modulo this number, so that devices that share a batch
      share every part.
    unroll: ``unroll`` of the ``lax.scan`` over the microbatches.

  Returns:
    ``grad_fn(params) -> grads``, in the dtype of the params.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type, or
      ``num_microbatches`` does not divide the length of the batch.

  Example:
    >>> import jax, jax.numpy as jnp, flatopt
    >>> loss_fn = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> x = jnp.arange(8.0).reshape(4, 2)
    >>> grad_fn = flatopt.closures.micro_grad_fn(loss_fn, x, num_microbatches=2)
    >>> w = jnp.ones(2)
    >>> bool(jnp.allclose(grad_fn(w), jax.grad(loss_fn)(w, x)))
    True
  """
  microbatches = _microbatches.cut("micro_grad_fn", "batch", batch, num_microbatches)
  gradient = lambda params, microbatch: (None, jax.grad(loss_fn)(params, microbatch))
  return lambda params: _microbatches.mean_gradient(gradient, params, microbatches, unroll)[1]
