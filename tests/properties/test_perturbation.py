"""What holds for the perturbation of SAM and ASAM, whatever the gradient."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st

import flatopt

RHO = 0.3
numbers = st.integers(-100, 100).map(lambda i: i / 8)
vectors = st.lists(numbers, min_size=5, max_size=5).map(np.float32)
exponents = st.floats(-30, 28, width=32)


def reached_by(method):
  """Where grad_fn is called, as a function of gradient and params (five numbers each)."""

  def reach(g, w):
    split = lambda x: {"a": x[:2], "b": x[2:].reshape(1, 3)}
    grads, params = split(jnp.asarray(g)), split(jnp.asarray(w))
    output, _ = method.update(grads, method.init(params), params, grad_fn=lambda p: p)
    return jnp.concatenate([output["a"], output["b"].ravel()])

  return jax.jit(reach)


sam = reached_by(flatopt.sam(RHO))
asam = reached_by(flatopt.asam(RHO, eta=0.0, scale_mask=True))
ZEROS = np.zeros(5, np.float32)


@given(vectors, exponents)
@example(np.float32([0, 0, 0, 0, 0.125]), -30)
@example(np.float32([12.5, -12.5, 12.5, 12.5, 12.5]), 28)
@example(np.float32([1e-20, 0, 0, 0, 1]), 0)
def test_radius_is_rho_for_any_gradient(g, exponent):
  assume(np.any(g))
  eps = np.asarray(sam(np.float32(g * 10.0**exponent), ZEROS), float)
  np.testing.assert_allclose(np.linalg.norm(eps), RHO, rtol=1e-5)


@given(vectors, vectors, st.floats(0.001, 1000))
@example(np.float32([0, 0, 0, 0, 0.125]), np.float32([1, 2, 3, 4, 5]), 0.001)
def test_scaling_the_gradient_changes_nothing(g, w, factor):
  chex.assert_trees_all_close(sam(g * np.float32(factor), w), sam(g, w), atol=2e-6)


@given(vectors, vectors)
def test_zero_or_uphill(g, w):
  """eps points along g, and the params stay where g is zero."""
  eps = np.asarray(sam(g, w)) - w
  assert np.all(eps * g >= 0)
  np.testing.assert_array_equal(eps[g == 0], 0)


@given(vectors, vectors, st.floats(0.1, 10), st.floats(0.1, 10))
@example(np.float32([1, 1, 1, 1, 1]), np.float32([0, 0, 0, 0, 0]), 2.0, 3.0)
@example(np.float32([1, 0, 0, 0, 0]), np.float32([0.125, 1, 1, 1, 1]), 10.0, 0.1)
def test_asam_follows_a_rescaling_of_layers(g, w, first, second):
  """w -> a w takes g to g / a, and w + eps to a (w + eps): no eta, no absolute scale."""
  a = np.float32([first] * 2 + [second] * 3)
  chex.assert_trees_all_close(asam(g / a, a * w), a * asam(g, w), rtol=1e-4, atol=1e-4)


@given(vectors, vectors)
def test_asam_radius_is_rho_in_units_of_the_weights(g, w):
  assume(np.any(g * w))
  eps = np.asarray(asam(g, w), float) - w
  scaled = np.divide(eps, np.abs(w), out=np.zeros(5), where=w != 0)
  np.testing.assert_allclose(np.linalg.norm(scaled), RHO, rtol=1e-3)
  np.testing.assert_array_equal(eps[w == 0], 0)
