"""The accuracy of a trained model under noise on its weights."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


def additive(weights: jax.Array, noise: jax.Array, strength: jax.Array) -> jax.Array:
  """w + strength * N(0, 1): in units of the weights."""
  return weights + strength * noise


def multiplicative(weights: jax.Array, noise: jax.Array, strength: jax.Array) -> jax.Array:
  """w * (1 + strength * N(0, 1)): relative to each weight."""
  return weights * (1 + strength * noise)


class NoiseCurve(NamedTuple):
  """Accuracy at S strengths: the mean over draws, and the band that 80 % of them fall into."""

  mean_S: jax.Array
  low_S: jax.Array  # 10th percentile
  high_S: jax.Array  # 90th percentile


def accuracy_under_noise(
  accuracy_fn: Callable[..., jax.Array],
  params: Any,
  apply_noise: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
  strengths: Sequence[float],
  *,
  num_draws: int,
  key: jax.Array,
  args: tuple = (),
) -> NoiseCurve:
  """Measures ``accuracy_fn(params, *args)``, a jit-able scalar, under Gaussian noise on every param.

  A draw is the same direction at every strength, and for every model that is given the same key:
  differences between models have the noise of paired measurements. One perturbed copy of the
  params is alive at a time. A call with the same two functions, and arrays of the same shapes,
  compiles nothing again.
  """
  strengths_S = jnp.asarray(strengths, jnp.float32)
  keys_N = jax.random.split(key, num_draws)
  accuracies_SxN = _accuracies(accuracy_fn, apply_noise, params, args, strengths_S, keys_N)
  low_S, high_S = jnp.quantile(accuracies_SxN, jnp.array([0.1, 0.9]), axis=1)
  return NoiseCurve(jnp.mean(accuracies_SxN, axis=1), low_S, high_S)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _accuracies(accuracy_fn, apply_noise, params, args, strengths_S, keys_N):
  def perturbed_accuracy(strength, key):
    leaves, treedef = jax.tree.flatten(params)
    noisy = [
      apply_noise(w.astype(jnp.float32), jax.random.normal(k, w.shape), strength).astype(w.dtype)
      for w, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    return accuracy_fn(treedef.unflatten(noisy), *args).astype(jnp.float32)

  on_draws = lambda strength: jax.lax.map(lambda key: perturbed_accuracy(strength, key), keys_N)
  return jax.lax.map(on_draws, strengths_S)
