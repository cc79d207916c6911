"""SAM: output grad_fn(w + rho * g / ||g||)."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.trajectory import (
  BASE,
  PULLS,
  SKIPPING,
  START,
  assert_close,
  follow,
  gradient,
  numpy_base,
  once,
  table,
  unit,
  with_rows,
)

RADII = [0.3, 0.1, 0.2, 0.0, 0.5, 0.4]


def sam_numpy(radii, pulls=PULLS):
  w, base, rows = START, numpy_base(), []
  for rho, pull in zip(radii, pulls, strict=False):
    g = gradient(w, pull)
    w = w + base(gradient(w + rho * unit(g), pull), w)
    rows.append(w)
  return rows


def test_equation(x64):
  rows, _ = follow(optax.chain(flatopt.sam(0.3), BASE), 6)
  assert_close(rows, sam_numpy([0.3] * 6))


def test_rho_schedule_reads_the_count(x64):
  rows, _ = follow(optax.chain(flatopt.sam(table(RADII)), BASE), 6)
  assert_close(rows, sam_numpy(RADII))


def test_rho_schedule_reads_step_where_given():
  g = w = jnp.array([3.0, 4.0])
  reached, _ = once(flatopt.sam(table(RADII)), g, w, grad_fn=lambda p: p, step=jnp.array(4))
  np.testing.assert_allclose(reached, [3.3, 4.4], rtol=1e-6)


def test_one_norm_over_all_leaves():
  g = {"a": jnp.array([2.0]), "b": jnp.array([[1.0, 2.0]])}
  w = {"a": jnp.array([10.0]), "b": jnp.array([[20.0, 30.0]])}
  reached, _ = once(flatopt.sam(0.3), g, w, grad_fn=lambda p: p)
  np.testing.assert_allclose(reached["a"], [10.2], rtol=1e-6)
  np.testing.assert_allclose(reached["b"], [[20.1, 30.2]], rtol=1e-6)


MASKS = {
  "pytree": {"bias": False, "kernel": True},
  "callable": lambda params: {name: x.ndim > 1 for name, x in params.items()},
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_mask_leaves_the_other_leaves_out_of_eps_and_its_norm(mask):
  g = {"bias": jnp.array([12.0]), "kernel": jnp.array([[3.0, 4.0]])}
  w = {"bias": jnp.array([1.0]), "kernel": jnp.array([[1.0, 1.0]])}
  reached, _ = once(flatopt.sam(0.5, mask=mask), g, w, grad_fn=lambda p: p)
  assert reached["bias"].tolist() == [1]
  np.testing.assert_allclose(reached["kernel"], [[1.3, 1.4]], rtol=1e-6)


def test_non_finite_gradient_off_the_mask_leaves_as_nan_too():
  g = {"bias": jnp.array([np.nan]), "kernel": jnp.array([3.0])}
  method = flatopt.sam(mask=MASKS["pytree"])
  output, _ = once(method, g, jax.tree.map(jnp.ones_like, g), grad_fn=lambda p: p)
  assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(output))


@pytest.mark.parametrize("rho", [0.3, 0.0])
def test_zero_gradient_gives_zero_perturbation(rho):
  w = jnp.array([1.0, -2.0])
  reached, _ = once(flatopt.sam(rho), jnp.zeros(2), w, grad_fn=lambda p: p)
  np.testing.assert_array_equal(reached, w)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_extreme_gradients_keep_the_radius(scale):
  g = jnp.array([1.0, -2.0, 2.0]) * scale
  reached, _ = once(flatopt.sam(0.3), g, jnp.zeros(3), grad_fn=lambda p: p)
  np.testing.assert_allclose(reached, [0.1, -0.2, 0.2], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_gradient_leaves_as_nan(bad):
  """Even where the closure's result is finite."""
  g = jnp.array([1.0, bad, 3.0])
  output, _ = once(flatopt.sam(0.3), g, jnp.zeros(3), grad_fn=jnp.ones_like)
  assert np.isnan(output).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_apply_if_finite_behind_it_skips(x64, bad):
  pulls = with_rows(PULLS, [2], bad)
  rows, _ = follow(optax.chain(flatopt.sam(0.3), SKIPPING), 6, pulls)
  assert_close(rows, sam_numpy([0.3] * 6, pulls))
  np.testing.assert_array_equal(rows[2], rows[1])


def test_bfloat16_is_perturbed_in_float32():
  rng = np.random.default_rng(0)
  w, g = (rng.normal(size=64).astype(ml_dtypes.bfloat16) for _ in range(2))
  reached, _ = once(flatopt.sam(0.3), jnp.asarray(g), jnp.asarray(w), grad_fn=lambda p: p)
  assert reached.dtype == jnp.bfloat16
  expected = w.astype(np.float32) + np.float32(0.3) * unit(g.astype(np.float32))
  # All but where float32 itself rounds differently, next to a tie of bfloat16.
  assert np.mean(reached == expected.astype(ml_dtypes.bfloat16)) > 0.95


def test_output_has_the_dtype_of_the_params():
  w = jnp.ones(3, jnp.bfloat16)
  output, _ = once(flatopt.sam(0.3), w, w, grad_fn=lambda p: p.astype(jnp.float32))
  assert output.dtype == jnp.bfloat16
