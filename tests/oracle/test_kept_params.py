"""Wrappers keep the params of the first update, not those of init; momentum_sam follows later ones.

Libraries create the optimizer's state from other params than training starts at: zeros, or those
that ``TrainState.replace(params=pretrained)`` replaces.
"""

import chex
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
  tree,
  unit,
)

WRAPPERS = {
  "lookahead": flatopt.lookahead(BASE, sync_period=3),
  "sala": flatopt.sala(BASE, sync_period=2, rho=0.5),  # the first update also moves slow
  "momentum_sam": flatopt.momentum_sam(BASE, rho=0.3),
  "weight_average": flatopt.weight_average(BASE, update_interval=3),
  "nested": flatopt.weight_average(flatopt.lookahead(flatopt.momentum_sam(BASE)), start_step=3),
}
each_wrapper = pytest.mark.parametrize("optimizer", WRAPPERS.values(), ids=WRAPPERS)


def as_if_initialised_on(other, optimizer):
  """The optimizer, whose ``init`` gets other params than the first update."""
  return optimizer._replace(init=lambda params: optimizer.init(jax.tree.map(other, params)))


@each_wrapper
def test_the_params_of_init_have_no_effect(x64, optimizer):
  rows, states = follow(optimizer, 7)
  other = as_if_initialised_on(lambda w: jnp.full_like(w, jnp.nan), optimizer)
  rows_of_other, states_of_other = follow(other, 7)
  np.testing.assert_array_equal(rows_of_other, rows)
  chex.assert_trees_all_equal(states_of_other, states)
  chex.assert_tree_all_finite(states)


@each_wrapper
def test_before_the_first_update_the_given_params_are_evaluated(optimizer):
  params = tree(jnp.asarray(START))
  state = optimizer.init(jax.tree.map(jnp.zeros_like, params))
  for evaluate in (flatopt.eval_params, jax.jit(flatopt.eval_params)):
    chex.assert_trees_all_equal(evaluate(state, params), params)


def test_momentum_sam_follows_params_that_something_else_moves(x64):
  """They are clamped after each step; what is left of the perturbation is not kept."""
  optimizer = flatopt.momentum_sam(BASE, rho=0.3)
  params, base, eps = tree(jnp.asarray(START)), numpy_base(), np.zeros(6)
  trained, state = START, optimizer.init(params)
  for pull in PULLS[:5]:
    u = base(gradient(trained, pull), trained)
    trained, eps = trained - eps + u + 0.3 * unit(u), 0.3 * unit(u)
    trained = np.clip(trained, -0.5, 0.5)
    updates, state = optimizer.update(tree(gradient(flat(params), pull)), state, params)
    params = jax.tree.map(lambda w, u: jnp.clip(w + u, -0.5, 0.5), params, updates)
    assert_close(flat(params), trained)
    assert_close(flat(flatopt.eval_params(state, params)), trained - eps)
  assert np.any(np.abs(trained) == 0.5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_rounding_of_perturbed_params_does_not_add_up(dtype):
  """Updates too small for them turn the perturbation, and the params below it stay."""
  rng = np.random.default_rng(0)
  optimizer = flatopt.momentum_sam(optax.identity(), rho=1.0)
  w = jnp.asarray(rng.normal(size=200) * 10.0 ** rng.integers(-4, 1, size=200), dtype)
  state = optimizer.init(w)
  update = jax.jit(optimizer.update)
  evaluated = []
  for direction in 1e-30 * rng.normal(size=(60, 200)):
    updates, state = update(jnp.asarray(direction, dtype), state, w)
    w = optax.apply_updates(w, updates)
    evaluated.append(np.asarray(flatopt.eval_params(state, w), np.float32))
  scale = float(jnp.finfo(dtype).eps)
  np.testing.assert_allclose(evaluated[-1], evaluated[0], rtol=0, atol=0.3 * scale)


def test_a_stacked_state_is_evaluated_row_by_row():
  """As ``vmap`` over seeds leaves it."""
  optimizer = flatopt.lookahead(BASE)
  params = jax.vmap(tree)(jnp.stack([START, 2 * START, 3 * START]))
  state = jax.vmap(optimizer.init)(params)
  _, state = jax.vmap(optimizer.update)(params, state, params)
  state = state._replace(count=jnp.array([1, 0, 1]))
  other = jax.tree.map(jnp.zeros_like, params)
  expected = jax.tree.map(lambda w: w.at[1].set(0), params)
  chex.assert_trees_all_equal(flatopt.eval_params(state, other), expected)


def test_an_average_of_slow_weights_leaves_frozen_params_alone():
  params = {"trained": jnp.array([4.0]), "frozen": jnp.array([9.0])}
  inner = flatopt.weight_average(flatopt.lookahead(optax.sgd(1.0), sync_period=2))
  optimizer = flatopt.trainable(inner, {"trained": True, "frozen": False})
  state = optimizer.init(params)
  for _ in range(2):
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    params = optax.apply_updates(params, updates)
  # The slow weights are 4, 4 and 3.
  found = flatopt.eval_params(state, params)
  assert found["frozen"] == 9
  np.testing.assert_allclose(found["trained"], 11 / 3, rtol=1e-6)
