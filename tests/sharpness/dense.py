"""Losses whose Hessians are written down."""

import jax
import jax.numpy as jnp
import numpy as np

from tests import problem


def quadratic(eigenvalues, seed=0):
  """``(loss_fn, params, hessian)`` with these eigenvalues in a random basis of two leaves."""
  n = len(eigenvalues)
  rng = np.random.default_rng(seed)
  basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
  hessian = basis @ np.diag(eigenvalues) @ basis.T

  def loss_fn(params):
    w = jnp.concatenate([params["a"].ravel(), params["b"]])
    return w @ jnp.asarray(hessian, w.dtype) @ w / 2

  params = {"a": jnp.asarray(rng.normal(size=(2, 2)), float), "b": jnp.ones(n - 4)}
  return loss_fn, params, hessian


def mlp():
  """The small MLP of ``tests/problem.py``: 43 params, curvature of both signs."""
  batch = problem.make_batch(size=64)
  return with_hessian(lambda params: problem.loss_fn(params, batch), problem.make_params())


def logistic_regression():
  rng = np.random.default_rng(0)
  inputs = jnp.asarray(rng.normal(size=(60, 12)) * np.geomspace(3, 0.1, 12), float)
  labels = jnp.asarray(np.sign(rng.normal(size=60)), float)
  loss_fn = lambda w: jnp.mean(jnp.logaddexp(jnp.zeros((), w.dtype), -labels * (inputs @ w)))
  return with_hessian(loss_fn, jnp.asarray(rng.normal(size=12), float))


def with_hessian(loss_fn, params):
  """The Hessian in float64, whatever the params' dtype."""
  flat, unravel = jax.flatten_util.ravel_pytree(params)
  hessian = jax.hessian(lambda w: loss_fn(unravel(w)))(flat)
  return loss_fn, params, np.asarray(hessian, np.float64)


def flatten(stacked):
  """Leaves (n, *shape) to rows (n, size), in the order of ``ravel_pytree``."""
  return np.concatenate([np.reshape(x, (len(x), -1)) for x in jax.tree.leaves(stacked)], axis=1)
