"""Lookahead: every sync_period-th step slow += slow_step_size * (d + slow_momentum * m), w = slow.

d = fast - slow, and m is the momentum of d: Nesterov's, or none.
"""

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


def lookahead_numpy(num_steps, sync_period, step_sizes, momenta):
  w = slow = START
  base, rows, slows, m = numpy_base(), [], [], 0.0
  for t in range(num_steps):
    w = w + base(gradient(w, PULLS[t]), w)
    if (t + 1) % sync_period == 0:
      d = w - slow
      m = momenta[t] * m + d
      slow = slow + step_sizes[t] * (d + momenta[t] * m)
      w = slow
    rows.append(w)
    slows.append(slow)
  return rows, slows


@pytest.mark.parametrize(("sync_period", "momenta"), [(1, None), (3, None), (3, (0.2, 0.9))])
def test_equation(x64, sync_period, momenta):
  step_sizes, momenta = np.linspace(0.1, 0.9, 16), np.linspace(*momenta or (0, 0), 16)
  optimizer = flatopt.lookahead(
    BASE,
    sync_period=sync_period,
    slow_step_size=table(step_sizes),
    slow_momentum=table(momenta) if any(momenta) else 0.0,
  )
  rows, state = follow(optimizer, 16)
  expected, slows = lookahead_numpy(16, sync_period, step_sizes, momenta)
  assert_close(rows, expected)
  assert_close(np.concatenate([state.slow["bias"], state.slow["kernel"].reshape(16, 4)], 1), slows)


def test_defaults(x64):
  rows, _ = follow(flatopt.lookahead(BASE), 11)
  assert_close(rows, lookahead_numpy(11, 5, [0.5] * 11, [0.0] * 11)[0])


def test_slow_momentum_is_that_of_sgd_on_pseudo_gradients(x64):
  """As DiLoCo has it: the outer optimizer is SGD, its gradient is slow - fast."""
  optimizer = flatopt.lookahead(BASE, sync_period=4, slow_step_size=0.7, slow_momentum=0.9)
  rows, _ = follow(optimizer, 16)
  outer = optax.sgd(0.7, momentum=0.9, nesterov=True)
  base, slow = numpy_base(), jnp.asarray(START)
  outer_state = outer.init(slow)
  for cycle in range(4):
    w = np.asarray(slow)
    for pull in PULLS[4 * cycle : 4 * cycle + 4]:
      w = w + base(gradient(w, pull), w)
    updates, outer_state = outer.update(slow - w, outer_state)
    slow = optax.apply_updates(slow, updates)
    assert_close(rows[4 * cycle + 3], slow)


def test_a_state_without_momentum_is_refused_by_name():
  one = jnp.ones(1)
  with pytest.raises(ValueError, match="lookahead: momentum in the state has"):
    once(
      flatopt.lookahead(BASE, slow_momentum=0.5), one, one, state=flatopt.lookahead(BASE).init(one)
    )


def test_bfloat16_moves_the_slow_weights_in_float32():
  w = np.linspace(1, 2, 64).astype(ml_dtypes.bfloat16)
  optimizer = flatopt.lookahead(optax.identity(), sync_period=1, slow_step_size=0.3)
  updates, state = once(optimizer, jnp.full(64, 2, jnp.bfloat16), jnp.asarray(w))
  assert updates.dtype == jnp.bfloat16
  fast = (w + ml_dtypes.bfloat16(2)).astype(np.float32)
  slow = w.astype(np.float32) + np.float32(0.3) * (fast - w.astype(np.float32))
  assert np.mean(state.slow == slow.astype(ml_dtypes.bfloat16)) > 0.95
