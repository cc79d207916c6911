"""Directions and the grid of losses along them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt import sharpness
from tests import problem
from tests.sharpness import dense


def test_filters_are_as_long_as_the_params(x64):
  params = problem.make_params() | {
    "conv": jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 4)))
  }
  directions = sharpness.filter_normalized_directions(params, num=3, key=0)
  assert len(directions) == 3
  for direction in directions:
    for d, w in zip(jax.tree.leaves(direction), jax.tree.leaves(params), strict=True):
      axes = tuple(range(w.ndim - 1)) or None
      length = lambda x, axes=axes: np.sqrt(np.sum(np.square(x), axis=axes))
      np.testing.assert_allclose(length(d), length(w), rtol=1e-12)
  first, second = (jax.flatten_util.ravel_pytree(d)[0] for d in directions[:2])
  assert abs(first @ second) < 0.5 * np.linalg.norm(first) * np.linalg.norm(second)


def test_filters_of_equinox(x64):
  """Weights (out, in) and (out, in, height, width)."""
  draw = lambda *shape: jnp.asarray(np.random.default_rng(0).normal(size=shape))
  params = {"linear": draw(4, 3), "conv": draw(4, 2, 3, 3), "bias": draw(4)}
  (direction,) = sharpness.filter_normalized_directions(params, num=1, filter_axis=0, key=0)
  length = lambda x: np.linalg.norm(np.reshape(x, (4, -1)), axis=1)
  for name in ("linear", "conv"):
    np.testing.assert_allclose(length(direction[name]), length(params[name]), rtol=1e-12)
  np.testing.assert_allclose(*map(np.linalg.norm, (direction["bias"], params["bias"])), rtol=1e-12)
  with pytest.raises(ValueError, match=r"filter_axis must be 0 or -1; got 1"):
    sharpness.filter_normalized_directions(params, filter_axis=1, key=0)


def test_zero_filters_do_not_move():
  kernel = jnp.array([[0.0, 1.0], [0.0, 1.0]])
  (direction,) = sharpness.filter_normalized_directions(kernel, num=1, key=0)
  np.testing.assert_array_equal(direction[:, 0], 0)


def test_grid(x64):
  params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
  loss_fn = lambda p: p["a"][0] * 100 + p["a"][1] * 10 + p["b"]
  one = {"a": jnp.array([1.0, 0.0]), "b": jnp.array(0.0)}
  two = {"a": jnp.array([0.0, 0.0]), "b": jnp.array(1.0)}
  losses = jax.jit(
    lambda p: sharpness.loss_landscape(loss_fn, p, (one, two), span=2.0, resolution=5)
  )(params)
  line = np.linspace(-2, 2, 5)
  np.testing.assert_allclose(losses, 123 + 100 * line[:, None] + line[None, :])


def test_host_loop_gives_the_same():
  on_host = sharpness.over_iterable(lambda w, x: jnp.sum((w - x) ** 2), [1.0, 3.0])
  losses = sharpness.loss_landscape(on_host, jnp.zeros(2), (jnp.ones(2),), resolution=3)
  np.testing.assert_allclose(losses, [20.0, 10.0, 4.0])


def test_eigenvectors_as_directions(x64):
  """Along them a quadratic rises by value * a^2 / 2, without mixed terms."""
  eigenvalues = np.linspace(-1.0, 5.0, 9)
  loss_fn, params, _ = dense.quadratic(eigenvalues)
  params = jax.tree.map(jnp.zeros_like, params)
  _, vectors = sharpness.top_eigenvalues(jax.grad(loss_fn), params, num=2, num_matvecs=9, key=0)
  losses = sharpness.loss_landscape(loss_fn, params, vectors, span=2.0, resolution=5)
  line = np.linspace(-2.0, 2.0, 5) ** 2 / 2
  expected = eigenvalues[-1] * line[:, None] + eigenvalues[-2] * line[None, :]
  np.testing.assert_allclose(losses, expected, atol=1e-10)
  one = jax.tree.map(lambda v: v[:1], vectors)
  losses = sharpness.loss_landscape(loss_fn, params, one, span=2.0, resolution=5)
  np.testing.assert_allclose(losses, eigenvalues[-1] * line, atol=1e-10)


def test_params_that_are_a_tuple():
  """Two directions like a tuple of two leaves are not taken for one pytree of stacked leaves."""
  params = (jnp.zeros(2), jnp.zeros(3))
  loss_fn = lambda p: jnp.sum(p[0]) + 10 * jnp.sum(p[1])
  one, two = (jnp.ones(2), jnp.zeros(3)), (jnp.zeros(2), jnp.ones(3))
  stacked = jax.tree.map(lambda *x: jnp.stack(x), one, two)
  line = np.linspace(-1, 1, 3)
  expected = 2 * line[:, None] + 30 * line[None, :]
  for directions in ((one, two), [one, two], stacked):
    losses = sharpness.loss_landscape(loss_fn, params, directions, resolution=3)
    np.testing.assert_allclose(losses, expected, atol=1e-6)
