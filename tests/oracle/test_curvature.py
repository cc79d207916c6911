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
    def grad_fn(params):
      return quartic(params)

    grad_fn.defvjp(
      lambda p: (quartic(p), p),
      lambda p, v: (jax.tree.map(lambda x, y: 3 * x**2 * y, p, v),),
    )
    rows, _ = estimates(hutchinson(mode="reverse-reverse"), 1, grad_fn=grad_fn)
    np.testing.assert_allclose(rows[0], 3 * START**2, rtol=1e-5)

  def test_bfloat16_samples_are_averaged_in_float32(self):
    """The sum of three samples of 1.0078125 is 3.0234375, which bfloat16 does not hold."""
    w = jnp.ones(1, jnp.bfloat16)
    slope = jnp.array(1.0078125, jnp.bfloat16)
    estimate, _ = once(hutchinson(3), w, w, grad_fn=lambda w: slope * w)
    assert estimate.dtype == jnp.float32
    assert estimate.tolist() == [1.0078125]


class TestGaussNewtonBartlett:
  def test_equation(self):
    sampled_grad_fn = lambda params, key: quartic(params)
    rows, state = estimates(gauss_newton_bartlett(7), 2, sampled_grad_fn=sampled_grad_fn)
    np.testing.assert_allclose(rows, np.tile(7 * START**6, (2, 1)), rtol=1e-5)
    assert state.count == 2
    assert flatopt.extra_gradient_evaluations(state) == 2

  def test_batch_size_1_is_the_default(self):
    rows, _ = estimates(gauss_newton_bartlett(), 1, sampled_grad_fn=lambda p, key: quartic(p))
    np.testing.assert_allclose(rows[0], START**6, rtol=1e-5)

  @pytest.mark.parametrize("key", [3, jax.random.key(3, impl="threefry2x32")], ids=["int", "key"])
  def test_estimate_t_is_given_key_folded_with_t(self, key):
    noise = lambda key: tree(jax.random.normal(key, (6,)))
    estimator = gauss_newton_bartlett(key=key)
    rows, _ = estimates(estimator, 3, sampled_grad_fn=lambda p, key: noise(key))
    root = jax.random.key(3, impl="threefry2x32")
    expected = [flat(noise(jax.random.fold_in(root, t))) ** 2 for t in range(3)]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)

  def test_batch_size_makes_it_unbiased(self, x64):
    """Two examples, three classes: the mean over all labels, by their probabilities."""
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    w = np.random.default_rng(0).normal(size=(2, 3))
    probs = np.array(jax.nn.softmax(x @ w))
    mean = 0
    for labels in itertools.product(range(3), repeat=2):
      grads = x.T @ (probs - np.eye(3)[list(labels)]) / 2
      estimator = gauss_newton_bartlett(batch_size=2)
      estimate, _ = estimator.update(
        None, estimator.init(w), w, sampled_grad_fn=lambda w, key, grads=grads: jnp.asarray(grads)
      )
      mean += probs[0, labels[0]] * probs[1, labels[1]] * np.asarray(estimate)
    gauss_newton_diagonal = (x**2).T @ (probs * (1 - probs)) / 2
    np.testing.assert_allclose(mean, gauss_newton_diagonal, rtol=1e-12)


def test_empirical_fisher():
  rows, state = estimates(empirical_fisher(), 2, grad_fn=quartic)
  np.testing.assert_allclose(rows, np.tile(START**6, (2, 1)), rtol=1e-5)
  assert state.count == 2
  assert flatopt.extra_gradient_evaluations(state) == 2


ESTIMATORS = {
  "hutchinson": (hutchinson(), 3 * START**2),
  "gauss_newton_bartlett": (gauss_newton_bartlett(5), 5 * START**6),
  "empirical_fisher": (empirical_fisher(), START**6),
}


@pytest.mark.parametrize(("estimator", "diagonal"), ESTIMATORS.values(), ids=ESTIMATORS)
def test_serve_sophia(estimator, diagonal):
  """Sophia's average after one step is (1 - b2) times the estimate."""
  optimizer = optax.contrib.sophia(0.1, hessian_diagonal_fn=estimator)
  with jax.numpy_dtype_promotion("standard"):
    _, state = once(
      optimizer, quartic(W), W, grad_fn=quartic, sampled_grad_fn=lambda p, key: quartic(p)
    )
  np.testing.assert_allclose(flat(state[0].nu), 0.01 * diagonal, rtol=1e-4)


@jax.custom_vjp
def _cube(w):
  return w**3


# The forward rule calls the function itself, as JAX's own examples do: forward mode ends there.
_cube.defvjp(lambda w: (_cube(w), w), lambda w, cotangent: (3 * cotangent * w**2,))


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_models_with_custom_vjp(jit):
  """The diagonal of sum (w^3)^2 is 30 w^4; the error names the mode that finds it, or is JAX's."""
  grad_fn = jax.grad(lambda w: jnp.sum(_cube(w) ** 2))
  w = jnp.array([1.0, 2.0])

  def estimate(method):
    update = lambda w: method.update(w, method.init(w), w, grad_fn=grad_fn)[0]
    return (jax.jit(update) if jit else update)(w)

  np.testing.assert_allclose(estimate(hutchinson(mode="reverse-reverse")), [30, 480], rtol=1e-6)
  for method in (hutchinson(), flatopt.ire(), flatopt.ire(rho=0.1)):
    remedy = "custom_vjp" if jit else r'hutchinson: .*custom_vjp.*mode="reverse-reverse"'
    with pytest.raises(TypeError, match=remedy):
      estimate(method)
  reverse = flatopt.ire(curvature=hutchinson(mode="reverse-reverse"), flat_fraction=0.5)
  np.testing.assert_allclose(estimate(reverse), [3, 2], rtol=1e-6)
