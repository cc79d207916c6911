"""weight_average: w_t at t = start_step, start_step + update_interval, ..., w_t after t updates."""

import chex
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
  START,
  assert_close,
  flat,
  follow,
  gradient,
  numpy_base,
  tree,
)

NUM_STEPS = 11
SETTINGS = [
  {},
  {"start_step": 3},
  {"start_step": 4, "update_interval": 3},
  {"update_interval": 4},
  {"decay": 0.7},
  {"decay": 0.6, "start_step": 2, "update_interval": 2},
  {"decay": 0.0, "update_interval": 3},
  {"start_step": NUM_STEPS},
  {"start_step": NUM_STEPS + 1},
]


def path_numpy():
  """w_0, w_1, ..."""
  w, base, path = START, numpy_base(), [START]
  for pull in PULLS[:NUM_STEPS]:
    w = w + base(gradient(w, pull), w)
    path.append(w)
  return path


def averages_numpy(path, decay=None, start_step=0, update_interval=1):
  """What is evaluated after 1, 2, ... updates; the params themselves while there is nothing."""
  rows = []
  for t in range(1, len(path)):
    taken = path[start_step : t + 1 : update_interval]
    if not taken:
      average = path[t]
    elif decay is None:
      average = np.mean(taken, axis=0)
    else:
      average = taken[0]
      for w in taken[1:]:
        average = decay * average + (1 - decay) * w
    rows.append(average)
  return rows


def evaluated(states, rows):
  """``eval_params`` after each step."""
  found = []
  for t, row in enumerate(rows):
    state = jax.tree.map(lambda x, t=t: x[t], states)
    found.append(flat(flatopt.eval_params(state, tree(row))))
  return found


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equation(x64, settings):
  rows, states = follow(flatopt.weight_average(BASE, **settings), NUM_STEPS)
  path = path_numpy()
  assert_close(rows, path[1:])
  assert_close(evaluated(states, rows), averages_numpy(path, **settings))
  start, interval = settings.get("start_step", 0), settings.get("update_interval", 1)
  taken = [len(range(start, t + 1, interval)) for t in range(1, NUM_STEPS + 1)]
  assert states.num_averaged.tolist() == taken
  assert states.count.tolist() == list(range(1, NUM_STEPS + 1))


def test_what_is_averaged_around_wrappers_is_what_they_evaluate(x64):
  for wrap in (
    lambda base: flatopt.lookahead(base, sync_period=3),
    lambda base: flatopt.sala(base, sync_period=3, rho=0.3),
    lambda base: flatopt.momentum_sam(base, rho=0.3),
  ):
    optimizer = flatopt.weight_average(wrap(BASE), start_step=4, update_interval=2)
    rows, states = follow(optimizer, NUM_STEPS)
    path = [START, *evaluated(states.base, rows)]
    expected = averages_numpy(path, start_step=4, update_interval=2)
    assert_close(evaluated(states, rows), expected)
    assert np.abs(rows[0] - path[1]).max() > 0.01


def test_of_nested_averages_the_outer_decides(x64):
  inner = flatopt.weight_average(BASE, decay=0.5)
  rows, states = follow(flatopt.weight_average(inner, start_step=5), NUM_STEPS)
  inside = averages_numpy(path_numpy(), decay=0.5)
  found = evaluated(states, rows)
  assert_close(found[:4], inside[:4])
  assert_close(found[-1], np.mean(inside[4:], axis=0))


def test_bfloat16_is_averaged_in_float32():
  """Steps of the last bit: in bfloat16 a mean of 100 params would stand still."""
  optimizer = flatopt.weight_average(optax.sgd(1.0))
  w = jnp.ones(1, jnp.bfloat16)
  state = optimizer.init(w)
  update = jax.jit(optimizer.update)
  for t in range(100):
    step = jnp.full(1, (-1) ** t * 2.0**-7, jnp.bfloat16)  # to and fro
    updates, state = update(step, state, w)
    w = optax.apply_updates(w, updates)
  assert state.average.dtype == jnp.float32
  np.testing.assert_allclose(state.average, 1 - 50 / 101 * 2.0**-7, rtol=1e-6)
  found = flatopt.eval_params(state, w)
  assert found.dtype == jnp.bfloat16
  assert found == np.asarray(state.average).astype(ml_dtypes.bfloat16)


def test_the_average_is_a_copy():
  params = tree(jnp.asarray(START))
  optimizer = flatopt.weight_average(BASE)
  update = jax.jit(optimizer.update, donate_argnums=1)
  zeros = jax.tree.map(jnp.zeros_like, params)
  _, state = update(zeros, optimizer.init(params), zeros)
  found = flatopt.eval_params(state, params)
  update(zeros, state, zeros)
  chex.assert_trees_all_equal(found, zeros)


def test_frozen_params_are_not_averaged():
  params = tree(jnp.asarray(START))
  optimizer = flatopt.trainable(
    flatopt.weight_average(optax.sgd(1.0), start_step=1), {"bias": False, "kernel": True}
  )
  state = optimizer.init(params)
  found = []
  for _ in range(3):
    found.append(flatopt.eval_params(state, params))
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    params = optax.apply_updates(params, updates)
  for average, moved in zip(found, (0, 1, 1.5), strict=True):
    expected = tree(jnp.asarray(START - moved * (np.arange(6) >= 2)))
    chex.assert_trees_all_close(average, expected, rtol=1e-6, atol=1e-6)
