"""``spectral_density``: quadrature exact in its moments, smoothing that shifts only the second."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import trapezoid

from flatopt import sharpness
from flatopt.sharpness import spectrum
from flatopt.sharpness.block import as_block
from flatopt.sharpness.vectors import signs
from tests.sharpness import dense
from tests.versions import enable_x64


def quadrature(loss_fn, params, *, num_matvecs, num_samples, key):
  """Before it is smoothed."""
  block = as_block("spectral_density", jax.grad(loss_fn), params, None)
  return spectrum.quadrature(block, num_matvecs, num_samples, key)


PROBLEMS = {"mlp": dense.mlp, "rank 2": lambda: dense.quadratic(np.r_[4.0, -1.0, np.zeros(18)])}


@pytest.mark.parametrize(("bits", "tolerance"), [(32, 1e-5), (64, 1e-10)])
@pytest.mark.parametrize("name", PROBLEMS)
def test_moments_before_smoothing(name, bits, tolerance):
  key, num_samples = jax.random.key(3), 4
  with enable_x64(bits == 64):
    loss_fn, params, hessian = PROBLEMS[name]()
    options = dict(num_matvecs=10, num_samples=num_samples, key=key)
    nodes, weights = jax.jit(lambda p: quadrature(loss_fn, p, **options))(params)
    keys = jax.random.split(key, num_samples)
    v = jax.vmap(lambda k: ravel_pytree(signs(k, params))[0])(keys)
  nodes, weights, v = (np.asarray(x, float) for x in (nodes, weights, v))
  size, norm = len(hessian), np.abs(np.linalg.eigvalsh(hessian)).max()
  for k in range(4):
    exact = np.mean(np.sum(v * (v @ np.linalg.matrix_power(hessian, k)), axis=1)) / size
    found = np.mean(np.sum(weights * nodes**k, axis=1))
    assert abs(found - exact) <= tolerance * norm**k, k


def test_smoothing_keeps_the_mean_and_adds_its_variance(x64):
  loss_fn, params, _ = dense.mlp()
  options = dict(num_matvecs=20, num_samples=4, key=jax.random.key(0))
  nodes, weights = quadrature(loss_fn, params, **options)
  grid, density = sharpness.spectral_density(jax.grad(loss_fn), params, **options)
  assert grid.shape == density.shape == (1024,)
  moment = lambda k: trapezoid(density * grid**k, grid)
  raw = lambda k: float(np.mean(np.sum(weights * nodes**k, axis=1)))
  width = 0.01 * float(np.max(nodes) - np.min(nodes))
  assert moment(0) == pytest.approx(1, abs=1e-12)
  assert moment(1) == pytest.approx(raw(1), abs=1e-5 * width)
  assert moment(2) == pytest.approx(raw(2) + width**2, rel=1e-4)


@pytest.mark.parametrize("value", [3.0, 0.0])
def test_one_eigenvalue(value):
  grid, density = sharpness.spectral_density(
    jax.grad(lambda w: value * jnp.sum(w**2) / 2), jnp.ones(6), num_matvecs=4, key=0
  )
  assert np.all(np.isfinite(density))
  assert trapezoid(density, grid) == pytest.approx(1, abs=1e-5)
  assert grid[np.argmax(density)] == pytest.approx(value, abs=0.01)


def test_matfree_agrees_where_nothing_breaks_down(x64):
  """An independent implementation of Lanczos quadrature: the log determinant of a quadratic."""
  from matfree import decomp, funm, stochtrace

  loss_fn, params, hessian = dense.quadratic(np.linspace(1, 3, 20))
  nodes, weights = quadrature(
    loss_fn, params, num_matvecs=8, num_samples=256, key=jax.random.key(0)
  )
  ours = len(hessian) * np.mean(np.sum(weights * np.log(nodes), axis=1))
  integrand = funm.monte_carlo_funm_sym_logdet(decomp.tridiag_sym(8))
  sampler = stochtrace.sampler_signs(jnp.ones(20), num=256)
  matvec = lambda v: jnp.asarray(hessian) @ v
  theirs = stochtrace.estimator_monte_carlo(integrand, sampler)(matvec, jax.random.key(1))
  exact = np.sum(np.log(np.linspace(1, 3, 20)))
  assert ours == pytest.approx(exact, abs=0.3)
  assert float(theirs) == pytest.approx(exact, abs=0.3)
