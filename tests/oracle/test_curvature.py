"""The estimators of the curvature diagonal: v * (H v), batch_size * g * g, g * g."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from flatopt.curvature import empirical_fisher, gauss_newton_bartlett, hutchinson
from tests.oracle.trajectory import START, flat, once, quick_jit, tree

_root = np.random.default_rng(2).normal(size=(6, 6))
HESSIAN = _root @ _root.T - np.eye(6)
W = tree(jnp.asarray(START, jnp.float32))
ZEROS = jax.tree.map(jnp.zeros_like, W)
SIGNS = np.array(list(itertools.product([-1, 1], repeat=6)))
PRODUCTS = SIGNS * (SIGNS @ HESSIAN)  # every v * (H v) there is


def quadratic(params):
  return tree(jnp.asarray(HESSIAN, jnp.float32) @ flat(params))


def quartic(params):
  return jax.tree.map(lambda x: x**3, params)


def estimates(estimator, num_estimates, **closures):
  """Consecutive estimates (flat) and the last state."""
  step = lambda state, _: estimator.update(ZEROS, state, W, **closures)[::-1]
  scan = quick_jit(lambda state: jax.lax.scan(step, state, length=num_estimates))
  state, rows = scan(estimator.init(W))
  return np.asarray(jax.vmap(flat)(rows)), state


def distances_to_products(rows):
  return np.abs(rows[:, None] - PRODUCTS).max(axis=2)


VARIANCES = np.sum(HESSIAN**2, axis=1) - np.diag(HESSIAN) ** 2


@functools.cache
def hutchinson_rows(**settings):
  return estimates(hutchinson(**settings), 1024, grad_fn=quadratic)


class TestHutchinson:
  def test_is_exact_where_the_hessian_is_diagonal(self):
    """At w, with its sign, whatever the probes."""
    scales = jnp.array([1.0, -2.0, 3.0, -1.0, 2.0, 0.0])
    rows, _ = estimates(hutchinson(3), 2, grad_fn=lambda p: tree(scales * flat(p) ** 3))
    np.testing.assert_allclose(rows, np.tile(3 * scales * START**2, (2, 1)), rtol=1e-5)

  def test_is_a_rademacher_product_and_unbiased(self):
    rows, state = hutchinson_rows(key=1)
    assert distances_to_products(rows).min(axis=1).max() < 1e-4
    assert np.all(np.abs(rows.mean(axis=0) - np.diag(HESSIAN)) < 4 * np.sqrt(VARIANCES / 1024))
    np.testing.assert_allclose(rows.var(axis=0), VARIANCES, rtol=0.2)
    assert state.count == 1024
    assert state.extra_gradients == 2 * 1024

  def test_averages_its_samples(self):
    rows, state = hutchinson_rows(key=1, num_samples=16)
    deviations = np.sqrt(VARIANCES / (16 * 1024))
    assert np.all(np.abs(rows.mean(axis=0) - np.diag(HESSIAN)) < 4 * deviations)
    np.testing.assert_allclose(rows.var(axis=0), VARIANCES / 16, rtol=0.2)
    assert state.extra_gradients == 2 * 16 * 1024

  def test_draws_depend_on_key_and_count_alone(self):
    rows, _ = hutchinson_rows(key=1)
    nearest = distances_to_products(rows).argmin(axis=1)
    assert len(np.unique(np.minimum(nearest, 63 - nearest))) == 32  # v and -v are alike
    np.testing.assert_array_equal(
      estimates(hutchinson(key=jax.random.key(1)), 1024, grad_fn=quadratic)[0], rows
    )
    assert np.any(hutchinson_rows(key=2)[0] != rows)
    later = hutchinson(key=1).init(W)._replace(count=jnp.array(7))
    estimate, _ = once(hutchinson(key=1), ZEROS, W, state=later, grad_fn=quadratic)
    np.testing.assert_allclose(flat(estimate), rows[7], rtol=1e-5)

  def test_modes_agree(self):
    rows, _ = hutchinson_rows(key=1, mode="reverse-reverse")
    np.testing.assert_allclose(rows, hutchinson_rows(key=1)[0], rtol=1e-4, atol=1e-5)

  def test_reverse_mode_needs_no_forward_mode(self):
    @jax.custom_vjp
def _cube(w):
  return w**3


# The forward rule calls the function itself, as JAX's own examples do: forward mode ends there.
_cube.defvjp(lambda w: (_cube(w), w), lambda w, cotangent: (3 * cotangent * w**2,))


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_models_with_custom_vjp(jit):
  """The diagonal of sum (w^3)^2 is 30 w^4; the error names the mode that finds it."""
  grad_fn = jax.grad(lambda w: jnp.sum(_cube(w) ** 2))
  w = jnp.array([1.0, 2.0])

  def estimate(method):
    update = lambda w: method.update(w, method.init(w), w, grad_fn=grad_fn)[0]
    return (jax.jit(update) if jit else update)(w)

  np.testing.assert_allclose(estimate(hutchinson(mode="reverse-reverse")), [30, 480], rtol=1e-6)
  for method in (hutchinson(), flatopt.ire(), flatopt.ire(rho=0.1)):
    with pytest.raises(TypeError, match=r'hutchinson: .*mode="reverse-reverse"'):
      estimate(method)
  reverse = flatopt.ire(curvature=hutchinson(mode="reverse-reverse"), flat_fraction=0.5)
  np.testing.assert_allclose(estimate(reverse), [3, 2], rtol=1e-6)
