"""Losses without slope or curvature: answers stay finite, also where JAX looks for NaN and inf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import trapezoid

from flatopt import sharpness
from tests.sharpness import dense

W = {"a": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.25, 0.0])}
CONSTANT = lambda w: jnp.float32(3.0)
LINEAR = lambda w: jnp.sum(w["a"]) + jnp.sum(w["b"])
TIMES_ZERO = lambda w: 0.0 * jnp.sum(w["a"] ** 4)
FLAT = {"constant": CONSTANT, "linear": LINEAR, "times zero": TIMES_ZERO}


@pytest.fixture(autouse=True)
def no_nan_and_no_inf():
  with jax.debug_nans(True), jax.debug_infs(True):
    yield


def on_host(fn):
  return sharpness.over_iterable(lambda w, _: fn(w), [0, 1])


RUNS = {
  "eager": lambda measure, fn: measure(fn, W),
  "jit": lambda measure, fn: jax.jit(lambda w: measure(fn, w))(W),
  "host": lambda measure, fn: measure(on_host(fn), W),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("loss", FLAT)
def test_eigenvectors_of_a_zero_hessian_are_orthonormal(loss, run):
  options = {"num": 2, "num_matvecs": 6, "key": 0}
  for measure in (
    lambda fn, w: sharpness.top_eigenvalues(fn, w, **options),
    lambda fn, w: sharpness.smallest_eigenvalues(fn, w, basis_size=4, **options),
  ):
    values, vectors = RUNS[run](measure, jax.grad(FLAT[loss]))
    np.testing.assert_array_equal(values, 0)
    v = dense.flatten(vectors)
    np.testing.assert_allclose(v @ v.T, np.eye(2), atol=1e-5)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("loss", FLAT)
def test_trace_and_density_of_a_zero_hessian(loss, run):
  grad_fn = jax.grad(FLAT[loss])
  trace = lambda fn, w: sharpness.trace(fn, w, num_samples=2, key=0)
  assert RUNS[run](trace, grad_fn) == (0.0, 0.0)
  grid, density = RUNS[run](
    lambda fn, w: sharpness.spectral_density(fn, w, num_matvecs=3, num_samples=2, key=0), grad_fn
  )
  assert trapezoid(density, grid) == pytest.approx(1, abs=1e-5)
  assert grid[np.argmax(density)] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.0}, {"num_steps": 3, "eta": 0.1}])
def test_ascent_without_slope_or_radius(run, options):
  assert RUNS[run](lambda fn, w: sharpness.ascent(fn, w, rho=0.3, **options), TIMES_ZERO) == 0
  assert RUNS[run](lambda fn, w: sharpness.ascent(fn, w, rho=0.0, **options), LINEAR) == 0


@pytest.mark.parametrize("run", RUNS)
def test_average_and_landscape_of_a_flat_loss(run):
  average = lambda fn, w: sharpness.average(fn, w, sigma=0.0, num_samples=2, key=0)
  assert RUNS[run](average, LINEAR) == (0.0, 0.0)
  directions = sharpness.filter_normalized_directions(W, num=1, key=0)
  landscape = lambda fn, w: sharpness.loss_landscape(fn, w, directions, resolution=3)
  np.testing.assert_array_equal(RUNS[run](landscape, CONSTANT), 3)
