"""finish: update number num_steps leads to eval_params of the state inside, every other to w + u."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.trajectory import BASE, PULLS, START, assert_close, flat, follow, gradient, tree

NUM_STEPS = 7
INSIDE = {
  "lookahead, within a period": flatopt.lookahead(BASE, sync_period=3, slow_momentum=0.5),
  "sala": flatopt.sala(BASE, sync_period=3, rho=0.5),
  "weight_average": flatopt.weight_average(BASE, start_step=2),
  "momentum_sam": flatopt.momentum_sam(BASE, rho=0.3),
  "nested": flatopt.lookahead(flatopt.momentum_sam(BASE, rho=0.3), sync_period=5),
  "nothing to move to": BASE,
  "an average that has not begun": flatopt.weight_average(BASE, start_step=NUM_STEPS + 1),
}


def at(states, t):
  return jax.tree.map(lambda x: x[t], states)


@pytest.mark.parametrize("optimizer", INSIDE.values(), ids=INSIDE)
def test_the_last_update_leads_to_the_params_to_evaluate_at(x64, optimizer):
  expected, inner = follow(optimizer, NUM_STEPS)
  rows, states = follow(flatopt.finish(optimizer, NUM_STEPS), NUM_STEPS + 1)
  np.testing.assert_array_equal(rows[: NUM_STEPS - 1], expected[:-1])
  last = flatopt.eval_params(at(inner, -1), tree(expected[-1]))
  assert_close(rows[NUM_STEPS - 1], flat(last))
  chex.assert_trees_all_close(at(states.inner, slice(NUM_STEPS)), inner, rtol=1e-14, atol=1e-15)
  assert states.count.tolist() == list(range(1, NUM_STEPS + 2))
  assert np.flatnonzero(states.finished).tolist() == [NUM_STEPS - 1]

  # These params are evaluated as they are, and another update is that of the optimizer.
  final = tree(rows[NUM_STEPS - 1])
  chex.assert_trees_all_equal(flatopt.eval_params(at(states, NUM_STEPS - 1), final), final)
  grad_fn = lambda p: tree(gradient(flat(p), PULLS[NUM_STEPS]))
  updates, _ = optimizer.update(grad_fn(final), at(inner, -1), final, grad_fn=grad_fn)
  assert_close(rows[NUM_STEPS], flat(optax.apply_updates(final, updates)))


def test_before_it_the_params_inside_are_evaluated(x64):
  rows, states = follow(flatopt.finish(flatopt.lookahead(BASE, sync_period=3), 5), 4)
  chex.assert_trees_all_equal(
    flatopt.eval_params(at(states, 3), tree(rows[3])), at(states.inner.slow, 3)
  )


def test_frozen_params_stay(x64):
  params = tree(jnp.asarray(START))
  mask = {"bias": False, "kernel": True}
  average = flatopt.weight_average(optax.sgd(1.0))
  found = []
  for optimizer in (
    flatopt.trainable(flatopt.finish(average, 1), mask),
    flatopt.finish(flatopt.trainable(average, mask), 1),
  ):
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    found.append(optax.apply_updates(params, updates))
  expected = {"bias": params["bias"], "kernel": params["kernel"] / 2}
  chex.assert_trees_all_close(found, [expected, expected])


def test_updates_keep_their_dtype():
  """Also those of an average, which is float32."""
  w = jnp.linspace(1, 2, 64, dtype=jnp.bfloat16)
  optimizer = flatopt.finish(flatopt.weight_average(optax.sgd(0.125)), 1)
  updates, state = optimizer.update(w, optimizer.init(w), w)
  assert updates.dtype == jnp.bfloat16
  found = optax.apply_updates(w, updates).astype(jnp.float32)
  np.testing.assert_allclose(found, state.inner.average, rtol=2**-8)
