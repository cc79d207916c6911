"""The mean of random draws, and its standard error."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Estimate(NamedTuple):
  """The ``mean`` of independent draws and its ``standard_error``, both of shape ()."""

  mean: jax.Array
  standard_error: jax.Array


def estimate(draws: jax.Array) -> Estimate:
  """Makes an estimate from draws of shape (n,); if n = 1, the standard error is infinite."""
  n = draws.shape[0]
  if n == 1:
    return Estimate(draws[0], jnp.full((), jnp.inf, draws.dtype))
  return Estimate(jnp.mean(draws), jnp.std(draws, ddof=1) / n**0.5)
