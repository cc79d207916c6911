"""GSAM, LookSAM, Friendly-SAM and Momentum-SAM: their equations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.trajectory import (
  BASE,
  PULLS,
  START,
  assert_close,
  flat,
  follow,
  gradient,
  numpy_base,
  once,
  tree,
  unit,
)

NUM_STEPS = 7
RHO = 0.3


def descend(sharpen):
  """Rows of the loop ``w += base(sharpen(g, w, pull, t))``."""
  w, base, rows = START, numpy_base(), []
  for t, pull in enumerate(PULLS[:NUM_STEPS]):
    w = w + base(sharpen(gradient(w, pull), w, pull, t), w)
    rows.append(w)
  return rows


def test_gsam(x64):
  def sharpen(g, w, pull, t):
    g_s = gradient(w + RHO * unit(g), pull)
    return g_s - 0.4 * (g - (g @ g_s) / (g_s @ g_s) * g_s)

  rows, _ = follow(optax.chain(flatopt.gsam(RHO, alpha=0.4), BASE), NUM_STEPS)
  assert_close(rows, descend(sharpen))


def test_gsam_without_a_coefficient_is_sam():
  """Where products of the two gradients overflow, no part of one along the other is known."""
  huge = jnp.array([1e30, 2e30])
  output, _ = once(flatopt.gsam(RHO), 1e-10 * huge, jnp.zeros(2), grad_fn=lambda w: huge)
  np.testing.assert_array_equal(output, huge)


def test_looksam(x64):
  kept = {}

  def sharpen(g, w, pull, t):
    if t % 3:
      return g + 0.6 * np.linalg.norm(g) * kept["v"]
    g_s = gradient(w + RHO * unit(g), pull)
    kept["v"] = unit(g_s - (g @ g_s) / (g @ g) * g)
    return g_s

  rows, _ = follow(optax.chain(flatopt.looksam(RHO, alpha=0.6, update_interval=3), BASE), NUM_STEPS)
  assert_close(rows, descend(sharpen))


@pytest.mark.parametrize("factor", [1.1, 7.0])
def test_looksam_keeps_no_direction_of_rounding(factor):
  """As where rho is 0: both gradients are parallel, but the difference is not exactly zero."""
  g = jnp.asarray(PULLS[0], jnp.float32)
  _, state = once(flatopt.looksam(), g, jnp.ones_like(g), grad_fn=lambda w: factor * g)
  assert not state.direction.any()


def test_friendly_sam(x64):
  kept = {"m": np.zeros(6)}

  def sharpen(g, w, pull, t):
    direction = g - 0.7 * kept["m"]
    kept["m"] = g if t == 0 else 0.8 * kept["m"] + 0.2 * g
    return gradient(w + RHO * unit(direction), pull)

  method = flatopt.friendly_sam(RHO, sigma=0.7, decay=0.8)
  rows, _ = follow(optax.chain(method, BASE), NUM_STEPS)
  assert_close(rows, descend(sharpen))


def test_momentum_sam(x64):
  w, trained, base, rows, unperturbed = START, START, numpy_base(), [], []
  for pull in PULLS[:NUM_STEPS]:
    u = base(gradient(trained, pull), trained)
    w = w + u
    trained = w + RHO * unit(u)
    rows.append(trained)
    unperturbed.append(w)

  actual, states = follow(flatopt.momentum_sam(BASE, rho=RHO), NUM_STEPS)
  assert_close(actual, rows)
  evaluated = jax.vmap(lambda state, row: flat(flatopt.eval_params(state, tree(row))))
  assert_close(evaluated(states, actual), unperturbed)
