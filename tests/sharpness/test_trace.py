"""``trace``: its mean, its standard error, and how often that misses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from flatopt import sharpness
from tests.sharpness import dense


def test_diagonal_hessian_is_exact():
  mean, error = sharpness.trace(jax.grad(lambda w: jnp.sum(w**3)), jnp.array([1.0, 2.0]), key=0)
  assert (mean, error) == (18.0, 0.0)


def test_three_standard_errors_hold_for_200_seeds(x64):
  loss_fn, params, hessian = dense.mlp()
  measure = functools.partial(sharpness.trace, jax.grad(loss_fn), params, num_samples=32)
  keys = jax.vmap(jax.random.key)(jnp.arange(200))
  mean, error = jax.jit(jax.vmap(lambda key: measure(key=key)))(keys)
  assert np.sum(np.abs(mean - np.trace(hessian)) > 3 * error) <= 6
  # The error is neither too small nor too large: it is what the means scatter by.
  np.testing.assert_allclose(np.std(mean), np.mean(error), rtol=0.15)


def test_one_sample_has_no_finite_error():
  estimate = sharpness.trace(jax.grad(lambda w: jnp.sum(w**2)), jnp.ones(3), num_samples=1, key=0)
  assert (estimate.mean, estimate.standard_error) == (6.0, np.inf)
