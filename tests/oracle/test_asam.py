"""ASAM: output grad_fn(w + rho * T^2 g / ||T g||), T = |w| + eta on scaled leaves, else 1."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.trajectory import (
  BASE,
  IS_KERNEL,
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

RADII, FLOORS = [0.3, 0.1, 0.5, 0.2], [0.01, 0.5, 0.0, 0.1]


def asam_numpy(radii, floors, scaled=IS_KERNEL, pulls=PULLS):
  w, base, rows = START, numpy_base(), []
  for rho, eta, pull in zip(radii, floors, pulls, strict=False):
    g = gradient(w, pull)
    scale = np.where(scaled, np.abs(w) + eta, 1)
    w = w + base(gradient(w + rho * scale * unit(scale * g), pull), w)
    rows.append(w)
  return rows


MASKS = {
  "default": (None, IS_KERNEL),
  "pytree": ({"bias": True, "kernel": False}, ~IS_KERNEL),
  "callable": (lambda params: {"bias": params["bias"].ndim > 1, "kernel": True}, IS_KERNEL),
  "prefix": (True, np.ones(6, bool)),
}


@pytest.mark.parametrize(("scale_mask", "scaled"), MASKS.values(), ids=MASKS)
def test_equation(x64, scale_mask, scaled):
  method = flatopt.asam(0.3, eta=0.05, scale_mask=scale_mask)
  rows, _ = follow(optax.chain(method, BASE), 6)
  assert_close(rows, asam_numpy([0.3] * 6, [0.05] * 6, scaled))


def test_schedules_read_the_count(x64):
  method = flatopt.asam(table(RADII), eta=table(FLOORS))
  rows, _ = follow(optax.chain(method, BASE), 4)
  assert_close(rows, asam_numpy(RADII, FLOORS))


NAMES = {
  "kernel": {"kernel": 0},
  "bias": {"bias": None},
  "b": {"b": None},
  "b12": {"b12": None},
  "q_bias": {"q_bias": None},
  "bias_q": {"bias_q": None},
  "biased": {"biased": 0},
  "rebias": {"rebias": 0},
  "ba": {"ba": 0},
  "nested": {"bias": {"value": None}},
  "raw_value": {"dense": {"bias": {"raw_value": None}}},
  "kernel_value": {"kernel": {"value": 0}},
  "in_a_list": {"bias": [None, None]},
  "below_a_bias": {"bias": {"kernel": 0}},
  "no_names": [0, (0,)],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_biases_are_recognised_by_their_names(names):
  """None marks a bias: there T is 1, and elsewhere |w| = 3."""
  is_leaf = lambda x: x is None
  params = jax.tree.map(lambda _: jnp.array([3.0]), names, is_leaf=is_leaf)
  scale = np.array([1.0 if n is None else 3.0 for n in jax.tree.leaves(names, is_leaf=is_leaf)])
  grads = jax.tree.map(jnp.ones_like, params)
  reached, _ = once(flatopt.asam(0.5, eta=0.0), grads, params, grad_fn=lambda p: p)
  expected = 3 + 0.5 * scale * unit(scale)
  np.testing.assert_allclose(np.concatenate(jax.tree.leaves(reached)), expected, rtol=1e-6)


def test_mask_leaves_the_other_leaves_out_of_eps_and_its_norm():
  g = {"bias": jnp.array([12.0]), "kernel": jnp.array([1.5, 1.0]), "other": jnp.array([7.0])}
  w = {"bias": jnp.array([5.0]), "kernel": jnp.array([2.0, -4.0]), "other": jnp.array([9.0])}
  method = flatopt.asam(0.5, eta=0.0, mask={"bias": False, "kernel": True, "other": False})
  reached, _ = once(method, g, w, grad_fn=lambda p: p)
  assert reached["bias"].tolist() == [5]
  assert reached["other"].tolist() == [9]
  np.testing.assert_allclose(reached["kernel"], [2 + 0.5 * 2 * 0.6, -4 + 0.5 * 4 * 0.8], rtol=1e-6)


@pytest.mark.parametrize("grads", [[0.0, 0.0], [0.0, 5.0]], ids=["g=0", "Tg=0"])
def test_zero_gradient_gives_zero_perturbation(grads):
  w = jnp.array([1.0, 0.0])
  reached, _ = once(flatopt.asam(0.3, eta=0.0), jnp.array(grads), w, grad_fn=lambda p: p)
  np.testing.assert_array_equal(reached, w)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_extreme_gradients_keep_the_radius(scale):
  g, w = jnp.array([0.25, -1.0, 1.0]) * scale, jnp.array([4.0, 2.0, -2.0])
  reached, _ = once(flatopt.asam(0.3, eta=0.0), g, w, grad_fn=lambda p: p)
  expected = w + 0.3 * np.array([4, 2, 2]) * unit(np.array([1.0, -2.0, 2.0]))
  np.testing.assert_allclose(reached, expected, rtol=1e-5)


def test_apply_if_finite_behind_it_skips(x64):
  pulls = with_rows(PULLS, [2], np.nan)
  rows, _ = follow(optax.chain(flatopt.asam(0.3, eta=0.05), SKIPPING), 5, pulls)
  assert_close(rows, asam_numpy([0.3] * 5, [0.05] * 5, pulls=pulls))


def test_bfloat16_is_perturbed_in_float32():
  rng = np.random.default_rng(0)
  w, g = (rng.normal(size=64).astype(ml_dtypes.bfloat16) for _ in range(2))
  reached, _ = once(
    flatopt.asam(0.3, eta=0.01), jnp.asarray(g), jnp.asarray(w), grad_fn=lambda p: p
  )
  assert reached.dtype == jnp.bfloat16
  w, g = w.astype(np.float32), g.astype(np.float32)
  scale = np.abs(w) + np.float32(0.01)
  expected = w + np.float32(0.3) * scale * unit(scale * g)
  # All but where float32 itself rounds differently, next to a tie of bfloat16.
  assert np.mean(reached == expected.astype(ml_dtypes.bfloat16)) > 0.95
