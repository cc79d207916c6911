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
  """The gradient of the mean loss over a batch, one microbatch in memory at a time.

  Methods that look at the loss elsewhere need the same batch there; so accumulate inside
  the closure, with this, rather than around the optimizer with ``optax.MultiSteps``. Where the
  loss is wanted too, use ``micro_value_and_grad``. Sums are kept in at least float32. Cost:
  one gradient of the whole batch a call.

  Args:
    loss_fn: ``(params, microbatch) -> scalar``, a mean over the microbatch's examples.
    batch: pytree of arrays with one leading axis of examples.
    num_microbatches: equal parts to cut the batch into, >= 1; divides its length. Example i
      is in part i modulo their number, so that devices that share a batch share every part.
    unroll: of the ``lax.scan`` over microbatches.

  Returns:
    ``grad_fn(params) -> grads``, grads in the params' dtype.

  Raises:
    ValueError, TypeError: a bad argument, or a length that does not divide.

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
