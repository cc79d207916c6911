"""Lookahead: every sync_period-th step slow += slow_step_size * (fast - slow), w = slow."""

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
  follow,
  gradient,
  numpy_base,
  once,
  table,
)


def lookahead_numpy(num_steps, sync_period, step_sizes):
  w = slow = START
  base, rows, slows = numpy_base(), [], []
  for t in range(num_steps):
    w = w + base(gradient(w, PULLS[t]), w)
    if (t + 1) % sync_period == 0:
      slow = slow + step_sizes[t] * (w - slow)
      w = slow
    rows.append(w)
    slows.append(slow)
  return rows, slows


@pytest.mark.parametrize("sync_period", [1, 3])
def test_equation(x64, sync_period):
  optimizer = flatopt.lookahead(
    BASE, sync_period=sync_period, slow_step_size=table(np.linspace(0.1, 0.9, 16))
  )
  rows, state = follow(optimizer, 16)
  expected, slows = lookahead_numpy(16, sync_period, np.linspace(0.1, 0.9, 16))
  assert_close(rows, expected)
  assert_close(np.concatenate([state.slow["bias"], state.slow["kernel"].reshape(16, 4)], 1), slows)


def test_defaults(x64):
  rows, _ = follow(flatopt.lookahead(BASE), 11)
  assert_close(rows, lookahead_numpy(11, 5, [0.5] * 11)[0])


def test_schedule_reads_step_where_given_and_base_gets_it():
  base = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(),
    lambda g, state, params, *, step: (g * step.astype(g.dtype), state),
  )
  optimizer = flatopt.lookahead(base, sync_period=1, slow_step_size=table([0.0, 0.0, 0.25]))
  one = jnp.ones(1)
  updates, _ = once(optimizer, one, one, step=jnp.array(2))
  assert updates.tolist() == [0.25 * 2]


def test_bfloat16_moves_the_slow_weights_in_float32():
  w = np.linspace(1, 2, 64).astype(ml_dtypes.bfloat16)
  optimizer = flatopt.lookahead(optax.identity(), sync_period=1, slow_step_size=0.3)
  updates, state = once(optimizer, jnp.full(64, 2, jnp.bfloat16), jnp.asarray(w))
  assert updates.dtype == jnp.bfloat16
  fast = (w + ml_dtypes.bfloat16(2)).astype(np.float32)
  slow = w.astype(np.float32) + np.float32(0.3) * (fast - w.astype(np.float32))
  assert np.mean(state.slow == slow.astype(ml_dtypes.bfloat16)) > 0.95
