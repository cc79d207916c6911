"""Measures of some leaves alone, and the smallest eigenvalues, against dense submatrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import trapezoid

from flatopt import sharpness
from flatopt.sharpness.vectors import signs
from tests.sharpness import dense
from tests.versions import enable_x64

OUT = {"hidden": False, "out": True}  # a prefix
KERNELS = lambda params: jax.tree.map(lambda w: w.ndim == 2, params)
HIDDEN_BIAS = {"hidden": {"bias": True, "kernel": False}, "out": False}
MASKS = {"prefix": OUT, "callable": KERNELS, "mixed": HIDDEN_BIAS}


@pytest.fixture(scope="module")
def mlp():
  with enable_x64(True):
    return dense.mlp()


def chosen_entries(mask, params):
  """Where the mask is on, in the order of ``ravel_pytree``; the masks written out again."""
  on = {
    "prefix": {"hidden": {"bias": 0, "kernel": 0}, "out": {"bias": 1, "kernel": 1}},
    "callable": {"hidden": {"bias": 0, "kernel": 1}, "out": {"bias": 0, "kernel": 1}},
    "mixed": {"hidden": {"bias": 1, "kernel": 0}, "out": {"bias": 0, "kernel": 0}},
  }[mask]
  return np.asarray(ravel_pytree(jax.tree.map(lambda o, w: np.full(w.shape, o), on, params))[0]) > 0


@pytest.mark.parametrize("mask", MASKS)
def test_eigenvalues(x64, mlp, mask):
  loss_fn, params, hessian = mlp
  on = chosen_entries(mask, params)
  block = hessian[np.ix_(on, on)]
  exact = np.linalg.eigvalsh(block)
  options = {"num": 2, "num_matvecs": len(block), "mask": MASKS[mask], "key": 0}
  for measure, expected in (
    (sharpness.top_eigenvalues, exact[:-3:-1]),
    (sharpness.smallest_eigenvalues, exact[:2]),
  ):
    values, vectors = measure(jax.grad(loss_fn), params, **options)
    np.testing.assert_allclose(values, expected, atol=1e-10)
    v = dense.flatten(vectors)
    np.testing.assert_array_equal(v[:, ~on], 0)
    np.testing.assert_allclose(v @ v.T, np.eye(2), atol=1e-10)
    np.testing.assert_allclose(v[:, on] @ block, values[:, None] * v[:, on], atol=1e-10)


@pytest.mark.parametrize("mask", MASKS)
def test_product_trace_and_density(x64, mlp, mask):
  loss_fn, params, hessian = mlp
  on = chosen_entries(mask, params)
  block = hessian[np.ix_(on, on)]
  options = {"mask": MASKS[mask]}
  vector = jax.tree.map(jnp.cos, params)
  product = sharpness.hessian_vector_product(jax.grad(loss_fn), params, vector, **options)
  expected = np.zeros(len(on))
  expected[on] = block @ ravel_pytree(vector)[0][on]
  np.testing.assert_allclose(ravel_pytree(product)[0], expected, atol=1e-12)
  jax.tree.map(lambda x, w: x.shape == w.shape or pytest.fail(x.shape), product, params)

  estimate = sharpness.trace(jax.grad(loss_fn), params, num_samples=400, key=1, **options)
  assert abs(estimate.mean - np.trace(block)) < 4 * estimate.standard_error
  off_diagonal = block - np.diag(np.diag(block))
  variance = 2 * np.sum(off_diagonal**2)
  assert estimate.standard_error == pytest.approx(np.sqrt(variance / 400), rel=0.15)

  key = jax.random.key(5)
  grid, density = sharpness.spectral_density(
    jax.grad(loss_fn), params, num_matvecs=len(block), num_samples=2, key=key, **options
  )
  chosen = [x for x, keep in zip(jax.tree.leaves(params), leaf_mask(mask), strict=True) if keep]
  probes = [np.asarray(ravel_pytree(signs(k, chosen))[0]) for k in jax.random.split(key, 2)]
  mean = np.mean([v @ block @ v for v in probes]) / len(block)
  width = 0.01 * float(grid[-1] - grid[0])
  assert trapezoid(density * grid, grid) == pytest.approx(mean, abs=1e-4 * width)


def leaf_mask(mask):
  """Of hidden bias, hidden kernel, out bias, out kernel."""
  return {"prefix": (0, 0, 1, 1), "callable": (0, 1, 0, 1), "mixed": (1, 0, 0, 0)}[mask]


def test_under_jit_and_on_the_host(x64, mlp):
  loss_fn, params, hessian = mlp
  on = chosen_entries("prefix", params)
  exact = np.linalg.eigvalsh(hessian[np.ix_(on, on)])
  grad_fn = jax.grad(loss_fn)
  on_host = sharpness.over_iterable(lambda p, _: grad_fn(p), [1, 2])
  options = {"num_matvecs": 18, "mask": OUT, "key": 0}
  jitted = jax.jit(lambda p: sharpness.top_eigenvalues(grad_fn, p, **options))(params)
  for values, _ in (jitted, sharpness.top_eigenvalues(on_host, params, **options)):
    np.testing.assert_allclose(values, exact[-1:], rtol=1e-10)


@pytest.mark.parametrize("basis_size", [None, 20])
def test_smallest_of_all(x64, mlp, basis_size):
  loss_fn, params, hessian = mlp
  values, vectors = sharpness.smallest_eigenvalues(
    jax.grad(loss_fn), params, num=3, num_matvecs=43, basis_size=basis_size, key=0
  )
  exact = np.linalg.eigvalsh(hessian)[:3]
  assert np.all(exact < -0.01)
  np.testing.assert_allclose(values, exact, rtol=1e-8)
  v = dense.flatten(vectors)
  np.testing.assert_allclose(v @ hessian, values[:, None] * v, atol=1e-5)


def test_memory_is_the_block_s():
  """Eigenvalues of a small layer beside a large one keep no vectors of the large one."""
  params = {"large": jnp.ones(100_000), "small": jnp.ones(100)}
  loss_fn = lambda p: jnp.sum(p["large"] ** 4) + jnp.sum(p["small"] ** 4)

  def temporary_bytes(mask):
    measure = lambda p: sharpness.top_eigenvalues(
      jax.grad(loss_fn), p, num_matvecs=32, mask=mask, key=jax.random.key(0)
    )[0]
    return jax.jit(measure).lower(params).compile().memory_analysis().temp_size_in_bytes

  assert temporary_bytes({"large": False, "small": True}) < 0.2 * temporary_bytes(None)


@pytest.mark.parametrize(
  ("mask", "message"),
  [
    ({"hidden": False}, "mask does not fit the params: it has"),
    (lambda params: {"other": True}, "mask does not fit the params: it has"),
    ({"hidden": 1, "out": 0}, "mask must hold Python bools; got {'hidden': 1"),
    (False, "mask is False everywhere"),
  ],
)
def test_bad_masks(mask, message):
  params = {"hidden": jnp.ones(2), "out": jnp.ones(3)}
  grad_fn = jax.grad(lambda p: jnp.sum(p["hidden"]) ** 2)
  with pytest.raises((TypeError, ValueError), match=f"trace: {message}"):
    sharpness.trace(grad_fn, params, mask=mask, key=0)


def test_too_many_products_for_the_mask():
  params = {"hidden": jnp.ones(2), "out": jnp.ones(3)}
  grad_fn = jax.grad(lambda p: jnp.sum(p["hidden"]) ** 2)
  message = "smallest_eigenvalues: num_matvecs must be at most 2, the number of params on the mask"
  with pytest.raises(ValueError, match=message):
    sharpness.smallest_eigenvalues(
      grad_fn, params, num_matvecs=3, mask={"hidden": True, "out": False}, key=0
    )
