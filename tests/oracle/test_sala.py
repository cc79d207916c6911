"""SALA: Lookahead whose steps from the slow weights look at the loss nearby."""

import jax.numpy as jnp
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
  table,
  tree,
  unit,
  with_rows,
)

NUM_STEPS = 20


def sala_numpy(sync_period, step_sizes, radii, pulls=PULLS):
  """Per step: params, slow weights, stage, distance, extra gradients so far."""
  w = slow = START
  base, stage, distance, extra, rows = numpy_base(), 1, 0.0, 0, []
  for t in range(NUM_STEPS):
    c, rho, alpha, pull = t + 1, radii[t], step_sizes[t], pulls[t]
    g, start = gradient(w, pull), w
    if c % sync_period == 0:
      if stage == 2:
        g = gradient(w + rho * unit(g), pull)
        extra += 1
      start = slow
    w = fast = start + base(g, start)
    if c % sync_period == sync_period - 1:
      distance = (1 - alpha) * np.linalg.norm(fast - slow)
      slow = slow + alpha * (fast - slow)
      stage = 2 if distance < rho else 1
      if stage == 2:
        w = slow
    rows.append((w, slow, stage, distance, extra))
  return [np.array(column) for column in zip(*rows, strict=True)]


def slow_rows(state):
  return np.concatenate([state.slow["bias"], state.slow["kernel"].reshape(-1, 4)], axis=1)


def check(optimizer, expected, pulls=PULLS):
  rows, state = follow(optimizer, NUM_STEPS, pulls)
  w, slow, stage, distance, extra = expected
  np.testing.assert_array_equal(state.stage, stage)
  np.testing.assert_array_equal(state.extra_gradients, extra)
  assert_close(state.distance, distance)
  assert_close(slow_rows(state), slow)
  assert_close(rows, w)


@pytest.mark.parametrize(
  ("sync_period", "slow_step_size", "rho"), [(2, 0.5, 0.6), (3, 0.5, 1.3), (5, 0.8, 0.3)]
)
def test_equation(x64, sync_period, slow_step_size, rho):
  """Several periods, into stage 2 and out of it again."""
  expected = sala_numpy(sync_period, [slow_step_size] * NUM_STEPS, [rho] * NUM_STEPS)
  changes = np.diff(expected[2])
  assert 1 in changes
  assert -1 in changes
  optimizer = flatopt.sala(BASE, sync_period=sync_period, slow_step_size=slow_step_size, rho=rho)
  check(optimizer, expected)


def test_schedules_read_the_count(x64):
  step_sizes, radii = np.linspace(0.2, 0.9, NUM_STEPS), np.linspace(0.6, 0.1, NUM_STEPS)
  expected = sala_numpy(3, step_sizes, radii)
  assert set(expected[2][2:]) == {1, 2}
  optimizer = flatopt.sala(BASE, sync_period=3, slow_step_size=table(step_sizes), rho=table(radii))
  check(optimizer, expected)


def test_defaults(x64):
  expected = sala_numpy(5, [0.5] * NUM_STEPS, [0.05] * NUM_STEPS)
  check(flatopt.sala(BASE), expected)


def test_distance_equal_to_rho_is_stage_1():
  """From 0 the base goes to 2, and 2 - 2 * 0.5 is just rho."""
  optimizer = flatopt.sala(optax.sgd(1.0), sync_period=2, slow_step_size=0.5, rho=1.0)
  w = jnp.zeros(1)
  state = optimizer.init(w)
  updates, state = optimizer.update(jnp.array([-2.0]), state, w, grad_fn=lambda p: p)
  assert (state.stage, state.distance, state.slow, updates) == (1, 1, 1, 2)


def test_looks_near_w_and_steps_from_slow():
  """The two are the same in a run, but not where something else moved the params."""
  optimizer = flatopt.sala(optax.identity(), sync_period=2, rho=0.5)
  w, slow = jnp.array([3.0, 4.0]), jnp.array([10.0, 20.0])
  state = optimizer.init(w)._replace(count=jnp.array(1), stage=jnp.array(2), slow=slow)
  updates, state = optimizer.update(w, state, w, grad_fn=lambda p: p)
  np.testing.assert_allclose(w + updates, [10 + 3.3, 20 + 4.4], rtol=1e-6)
  assert state.extra_gradients == 1


def test_apply_if_finite_inside_skips(x64):
  """Bad batches at a usual step, a synchronising one, and a perturbed one in stage 2."""
  settings = 3, [0.5] * NUM_STEPS, [1.3] * NUM_STEPS
  expected = sala_numpy(*settings)
  perturbed = np.flatnonzero(np.diff(expected[4], prepend=0))[0]
  pulls = with_rows(PULLS, [0, 4, perturbed], np.nan)
  expected = sala_numpy(*settings, pulls)
  assert expected[4][perturbed] == expected[4][perturbed - 1] + 1
  optimizer = flatopt.sala(SKIPPING, sync_period=3, rho=1.3)
  check(optimizer, expected, pulls)


def test_step_is_read_and_handed_on():
  base = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(),
    lambda g, state, params, *, step, grad_fn: (grad_fn(params), state),
  )
  optimizer = flatopt.sala(
    base, sync_period=2, slow_step_size=table([0.0, 0.25]), rho=table([0.0, 10.0])
  )
  w = tree(jnp.zeros(6))
  grad_fn = lambda p: tree(jnp.ones(6))
  _, state = optimizer.update(w, optimizer.init(w), w, grad_fn=grad_fn, step=jnp.array(1))
  np.testing.assert_allclose(state.slow["bias"], 0.25)
  np.testing.assert_allclose(state.distance, 0.75 * np.sqrt(6), rtol=1e-6)
  assert state.stage == 2
