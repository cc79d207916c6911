"""Numbers at the edges of a dtype, zero gradients under JAX's debug flags, and meta-gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from flatopt import _tree
from flatopt.curvature import empirical_fisher, gauss_newton_bartlett, hutchinson
from tests.methods import BEFORE, OPTIMIZERS, SGD, with_argument

W = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[3.0]])}


def closures(grad_fn):
  return {"grad_fn": grad_fn, "sampled_grad_fn": lambda params, key: grad_fn(params)}


@pytest.mark.parametrize(
  ("values", "expected"),
  [
    ([0.0] * 4, 0.0),
    ([1e20] * 4, 2e20),
    ([1e-30] * 4, 2e-30),
    ([3e38], 3e38),
    ([1.2e-38] * 4, 2.4e-38),
    ([3e-20, 4e-20], 5e-20),
    ([3e19, 4e19], 5e19),
    ([np.inf, 1.0], np.inf),
    ([np.nan, 1.0], np.nan),
  ],
)
@pytest.mark.parametrize("how", ["constant", "argument", "eager", "vmap"])
def test_norm(full_optimization, values, expected, how):
  """XLA folds constants by rules of its own, which must not overflow."""
  x = jnp.array(values, jnp.float32)
  found = {
    "constant": lambda: jax.jit(lambda: _tree.norm([jnp.array(values, jnp.float32)]))(),
    "argument": lambda: jax.jit(_tree.norm)([x]),
    "eager": lambda: _tree.norm([x]),
    "vmap": lambda: jax.vmap(_tree.norm)([x[None]])[0],
  }[how]()
  np.testing.assert_allclose(found, np.float32(expected), rtol=1e-6)


def test_norm_of_a_filled_constant(full_optimization):
  for value, expected in ((0.0, 0.0), (1e20, 2e20), (1e-30, 2e-30)):
    found = jax.jit(lambda value=value: _tree.norm([jnp.full(4, value)]))()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
  "num_entries",
  [10**3, pytest.param(10**8, marks=pytest.mark.slow)],  # gigabytes
)
def test_norm_over_thirty_decades(full_optimization, num_entries):
  """Of entries alike, whose squares overflow or underflow in places, and of all decades at once."""
  rng = np.random.default_rng(0)
  norm = jax.jit(lambda x: _tree.norm(jnp.split(x, 4)))
  entries = rng.standard_normal(num_entries, np.float32)
  for exponent in (-20, -15, 0, 15, 18):
    x = entries * np.float32(10.0**exponent)
    np.testing.assert_allclose(norm(x), np.linalg.norm(x.astype(float)), rtol=1e-5)
  entries *= np.float32(10) ** rng.integers(-15, 16, num_entries, np.int8)
  np.testing.assert_allclose(norm(entries), np.linalg.norm(entries.astype(float)), rtol=1e-5)


ESTIMATORS = {
  "empirical_fisher": empirical_fisher(),
  "gauss_newton_bartlett": gauss_newton_bartlett(),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_squares_of_float16_gradients(name):
  """1e-4 squared is below float16's smallest number, and 300 squared above its largest."""
  g = jnp.array([1e-4, 300.0], jnp.float16)
  estimator = ESTIMATORS[name]
  estimate, _ = estimator.update(g, estimator.init(g), g, **closures(lambda params: g))
  assert estimate.dtype == jnp.float32
  np.testing.assert_allclose(estimate, np.square(np.asarray(g, np.float32)), rtol=1e-6)


def test_hutchinson_sums_in_float32():
  """Two samples of 40000 each: their sum is above float16's largest number."""
  w = jnp.ones(1, jnp.float16)
  estimator = hutchinson(2)
  grad_fn = lambda w: jnp.float16(40000) * w
  estimate, _ = estimator.update(w, estimator.init(w), w, grad_fn=grad_fn)
  np.testing.assert_allclose(estimate, [40000], rtol=1e-3)


EDGES = {
  "sam_rho_0": flatopt.sam(0.0),
  "sam_mask": flatopt.sam(mask={"a": True, "b": False}),
  "g_rst_0": flatopt.g_rst(flatopt.sam(), 0.0),
  "ire_none_flat": flatopt.ire(flat_fraction=0.0),
  "lookbehind_adaptive": flatopt.lookbehind(SGD, ascent_steps=2, interpolation="adaptive"),
}


@pytest.fixture(params=["jax_debug_nans", "jax_debug_infs"])
def debug_flag(request):
  jax.config.update(request.param, True)
  yield
  jax.config.update(request.param, False)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *EDGES])
def test_debug_flags_find_nothing(debug_flag, name):
  """In eager mode, where every single operation is looked at."""
  method = EDGES[name] if name in EDGES else OPTIMIZERS[name]()
  for grad_fn in (lambda w: jax.tree.map(jnp.zeros_like, w), lambda w: w):
    state = method.init(W)
    for _ in range(3):
      updates, state = method.update(grad_fn(W), state, W, **closures(grad_fn))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(updates))


OF_RHO = [name for name in with_argument("rho") if name != "ire"]


@pytest.mark.parametrize("name", OF_RHO)
def test_meta_gradients_are_finite_where_the_gradient_is_zero(name):
  def end(rho, w):
    optimizer = OPTIMIZERS[name](rho=rho)
    state = optimizer.init(w)
    grad_fn = jax.grad(lambda w: 0.0 * sum(jnp.sum(x**2) for x in jax.tree.leaves(w)))
    for _ in range(2):
      updates, state = optimizer.update(grad_fn(w), state, w, **closures(grad_fn))
      w = optax.apply_updates(w, updates)
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(w))

  slope, grads = jax.grad(end, argnums=(0, 1))(0.1, W)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((slope, grads)))


def test_meta_gradient_of_rho(x64):
  """Of sam on sum w^4 from 1: output 4 (1 + rho)^3, by rho 12 (1 + rho)^2."""
  grad_fn = jax.grad(lambda w: jnp.sum(w**4))

  def output(rho):
    w = jnp.ones(1)
    method = flatopt.sam(rho)
    return method.update(grad_fn(w), method.init(w), w, grad_fn=grad_fn)[0][0]

  np.testing.assert_allclose(jax.grad(output)(0.1), 12 * 1.1**2, rtol=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", BEFORE)
def test_a_gradient_that_is_not_finite_leaves_so_and_enters_no_state(name, bad):
  """Even where the closure's result is finite; every entry is NaN behind methods that perturb."""
  method, g = BEFORE[name](), jnp.array([1.0, bad, 3.0])
  output, state = method.update(g, method.init(g), jnp.ones(3), **closures(jnp.ones_like))
  is_perturbed = flatopt.extra_gradient_evaluations(state) > 0
  assert np.isnan(output).all() if is_perturbed else np.array_equal(output, g, equal_nan=True)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
