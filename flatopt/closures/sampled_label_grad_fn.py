"""Gradients of the loss of labels that the model itself draws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments
from flatopt._typing import Params, SampledGradFn
from flatopt.closures import _microbatches


def sampled_label_grad_fn(
  logits_fn: Callable[[Params, Any], jax.Array],
  inputs: Any,
  *,
  num_microbatches: int = 1,
  unroll: int | bool = 1,
) -> SampledGradFn:
  """Gradients of the negative log likelihood of labels drawn from the model itself.

  What ``flatopt.curvature.gauss_newton_bartlett`` needs of a classifier or a language
  model. Cost: one gradient a call.

  Args:
    logits_fn: ``(params, inputs) -> logits`` of shape (..., classes), unnormalised.
    inputs: what ``logits_fn`` takes for the current batch, without labels; with several
      microbatches, a pytree of arrays with one leading axis of examples.
    num_microbatches: equal parts to cut the inputs into, >= 1; one is in memory at a time, and
      each draws its labels with a key of its own, folded from ``key``.
    unroll: of the ``lax.scan`` over microbatches.

  Returns:
    ``sampled_grad_fn(params, key) -> grads`` of the mean over all leading axes.

  Raises:
    ValueError, TypeError: a bad argument, or a length that does not divide.

  Source:
    Liu, Li, Hall, Liang, Ma 2023 (Sophia), arXiv 2305.14342, algorithm 2.

  Example:
    >>> import jax, jax.numpy as jnp, flatopt
    >>> x = jnp.ones((4, 3))
    >>> sampled_grad_fn = flatopt.closures.sampled_label_grad_fn(lambda w, x: x @ w, x)
    >>> sampled_grad_fn(jnp.zeros((3, 2)), jax.random.key(0)).shape
    (3, 2)
  """
  name = "sampled_label_grad_fn"
  _arguments.check_integer(name, "num_microbatches", num_microbatches, minimum=1)

  def sampled_loss(params, key, inputs):
    logits = logits_fn(params, inputs)
    labels = jax.random.categorical(key, jax.lax.stop_gradient(logits))
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

  if num_microbatches == 1:
    return lambda params, key: jax.grad(sampled_loss)(params, key, inputs)

  microbatches = _microbatches.cut(name, "inputs", inputs, num_microbatches)

  def sampled_grad_fn(params: Params, key: jax.Array) -> Params:
    def gradient(params, part):
      index, inputs = part
      return None, jax.grad(sampled_loss)(params, jax.random.fold_in(key, index), inputs)

    parts = jnp.arange(num_microbatches), microbatches
    return _microbatches.mean_gradient(gradient, params, parts, unroll)[1]

  return sampled_grad_fn
