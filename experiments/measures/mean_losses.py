"""Mean loss and accuracy over examples as one function of params."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.training.losses import Losses


@functools.cache
def means_of(losses: Losses) -> Callable[..., dict[str, jax.Array]]:
  """``(params, model_state, pairs)`` to "loss" and "accuracy", batch after batch.

  One function a model, so that a comparison's runs share what is compiled.
  """

  def means(params, model_state, pairs):
    def on_batch(pair):
      sums = losses.evaluate(params, model_state, *pair)
      return {name: x.astype(jnp.float32) for name, x in sums.items()}

    sums = jax.tree.map(jnp.sum, jax.lax.map(on_batch, pairs))
    return {name: sums[name] / sums["count"] for name in ("loss", "accuracy")}

  return means
