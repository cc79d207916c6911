"""Gradients for labels that are drawn from the model's own prediction."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _tree
from flatopt._typing import Params, SampledGradFn
from flatopt.closures.micro_value_and_grad import accumulate, cut


def sampled_label_grad_fn(
  logits_fn: Callable[[Params, Any], jax.Array],
  inputs: Any,
  *,
  num_microbatches: int = 1,
  unroll: int | bool = 1,
) -> SampledGradFn:
  """Makes the gradient of the loss for labels that are drawn from the model's own prediction.

      labels ~ Categorical(softmax(logits_fn(params, inputs)))
      sampled_grad_fn(params, key) = the gradient of the mean cross entropy for these labels

  ``flatopt.curvature.gauss_newton_bartlett`` needs it. Cost: one gradient per call.

  Args:
    logits_fn: ``(params, inputs) -> logits``, unnormalised, of shape (..., classes).
    inputs: the inputs of the current batch, without labels. With several microbatches, a pytree of
      arrays with the same leading axis of examples.
    num_microbatches: number of equal parts to cut the inputs into, >= 1. One part is in memory at
      a time, and each part draws its labels with its own key.
    unroll: ``unroll`` of the ``lax.scan`` over the microbatches.

  Returns:
    ``sampled_grad_fn(params, key) -> grads``. The mean is over all axes but the last of the logits.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type, or
      ``num_microbatches`` does not divide the length of the inputs.

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
    logits = logits.astype(_tree.wide_dtype(logits))  # noise in bfloat16 ties most of the classes
    labels = jax.random.categorical(key, jax.lax.stop_gradient(logits))
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

  if num_microbatches == 1:
    return lambda params, key: jax.grad(sampled_loss)(params, key, inputs)

  microbatches = cut(name, "inputs", inputs, num_microbatches)

  def sampled_grad_fn(params: Params, key: jax.Array) -> Params:
    def loss_at(params, index, inputs):
      return sampled_loss(params, jax.random.fold_in(key, index), inputs), (None, index + 1)

    weights = jnp.ones(num_microbatches, jnp.int32)
    *_, grads = accumulate(loss_at, params, jnp.int32(0), microbatches, weights, unroll)
    return grads

  return sampled_grad_fn
