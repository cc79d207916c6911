"""What holds for the slow weights of Lookahead and SALA, whatever the updates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import given
from hypothesis import strategies as st

import flatopt

NUM_STEPS, SYNC_PERIOD = 7, 3
rows = st.lists(
  st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=2),
  min_size=NUM_STEPS,
  max_size=NUM_STEPS,
).map(np.float32)
step_sizes = st.floats(0, 1, width=32).map(np.float32)


def runner(make):
  """Per step: the params that the base reached, the params after the step, the state."""

  @jax.jit
  def run(updates, slow_step_size):
    optimizer = make(slow_step_size)

    def step(carry, update):
      params, state = carry
      new, state = optimizer.update(update, state, params, grad_fn=lambda p: p)
      params = optax.apply_updates(params, new)
      return (params, state), (carry[0] + update, params, state)

    start = jnp.array([1.0, -2.0])
    return jax.lax.scan(step, (start, optimizer.init(start)), updates)[1]

  return run


lookahead = runner(
  lambda alpha: flatopt.lookahead(optax.identity(), sync_period=SYNC_PERIOD, slow_step_size=alpha)
)
sala = runner(
  lambda alpha: flatopt.sala(
    optax.identity(), sync_period=SYNC_PERIOD, slow_step_size=alpha, rho=1.0
  )
)


@given(rows, step_sizes)
def test_lookahead_moves_slow_between_slow_and_fast(updates, slow_step_size):
  fast, params, state = jax.tree.map(np.asarray, lookahead(updates, slow_step_size))
  slow = np.concatenate([np.float32([[1, -2]]), state.slow])
  for t in range(NUM_STEPS):
    if (t + 1) % SYNC_PERIOD:
      np.testing.assert_array_equal(slow[t + 1], slow[t])
      np.testing.assert_allclose(params[t], fast[t], atol=1e-6)
    else:
      low, high = np.minimum(slow[t], fast[t]), np.maximum(slow[t], fast[t])
      assert np.all((slow[t + 1] >= low - 1e-4) & (slow[t + 1] <= high + 1e-4))
      np.testing.assert_allclose(params[t], slow[t + 1], atol=1e-4)


@given(rows, step_sizes)
def test_sala_pays_once_a_period_at_most_and_only_in_stage_2(updates, slow_step_size):
  _, _, state = jax.tree.map(np.asarray, sala(updates, slow_step_size))
  assert set(state.stage) <= {1, 2}
  paid = np.diff(state.extra_gradients, prepend=0)
  before = np.concatenate([[1], state.stage[:-1]])
  counts = np.arange(1, NUM_STEPS + 1)
  np.testing.assert_array_equal(paid, (counts % SYNC_PERIOD == 0) & (before == 2))
  np.testing.assert_array_equal(state.stage[2:] == 2, state.distance[2:] < 1)
  chex.assert_tree_all_finite(state)
