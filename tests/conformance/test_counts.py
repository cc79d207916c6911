"""Closure calls, counted at run time, and what ``extra_gradient_evaluations`` says of them."""

import jax
import numpy as np
import optax
import pytest

import flatopt
from tests import problem
from tests.conformance.cases import CASES

NUM_STEPS = 12


def count_closure_calls(optimizer):
  """``(calls per step, the state after each step)`` of a run."""
  calls = 0

  def note():
    nonlocal calls
    calls += 1

  def counted(fn):
    def call(*args):
      jax.debug.callback(note)
      return fn(*args)

    return call

  @jax.jit
  def step(params, state, batch):
    fns = problem.closures(batch)
    grads = fns["grad_fn"](params)
    watched = {name: counted(fn) for name, fn in fns.items()}
    updates, state = optimizer.update(grads, state, params, **watched)
    return optax.apply_updates(params, updates), state

  params = problem.make_params()
  state = optimizer.init(params)
  per_step, states = [], []
  for seed in range(NUM_STEPS):
    before = calls
    params, state = step(params, state, problem.make_batch(seed))
    jax.effects_barrier()
    per_step.append(calls - before)
    states.append(state)
  return per_step, states


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_extra_gradient_evaluations_are_the_calls(case):
  per_step, states = count_closure_calls(case.make())
  # A Hessian-vector product is one call of the closure and costs two gradients.
  paid = sum(per_step) + case.products(NUM_STEPS)
  assert paid > 0
  assert int(flatopt.extra_gradient_evaluations(states[-1])) == paid


def test_sam_calls_once_a_step():
  per_step, _ = count_closure_calls(flatopt.sam())
  assert per_step == [1] * NUM_STEPS


def test_rst_calls_as_drawn():
  key = 3
  per_step, _ = count_closure_calls(flatopt.rst(flatopt.sam(), 0.4, key=key))
  keys = jax.vmap(lambda t: jax.random.fold_in(jax.random.key(key), t))(np.arange(NUM_STEPS))
  drawn = jax.vmap(jax.random.uniform)(keys) < 0.4
  assert 0 < drawn.sum() < NUM_STEPS
  assert per_step == drawn.astype(int).tolist()


@pytest.mark.parametrize(
  ("probability", "paid"),
  [
    (flatopt.schedules.from_step(7), lambda t: t >= 7),
    (flatopt.schedules.every(5), lambda t: t % 5 == 0),
    (0.0, lambda t: False),
    (1.0, lambda t: True),
  ],
  ids=["from_step", "every", "never", "always"],
)
def test_rst_calls_on_scheduled_steps(probability, paid):
  per_step, states = count_closure_calls(flatopt.rst(flatopt.sam(), probability))
  assert per_step == [int(paid(t)) for t in range(NUM_STEPS)]
  expected = flatopt.expected_gradient_evaluations(probability, NUM_STEPS)
  assert NUM_STEPS + int(flatopt.extra_gradient_evaluations(states[-1])) == expected


def test_sala_calls_as_staged():
  per_step, states = count_closure_calls(
    flatopt.sala(optax.sgd(0.5), sync_period=3, slow_step_size=0.5, rho=0.15)
  )
  stages = [1] + [int(state.stage) for state in states]
  expected = [int(c % 3 == 0 and stages[c - 1] == 2) for c in range(1, NUM_STEPS + 1)]
  assert 0 < sum(expected) < NUM_STEPS // 3, "the run must pass through both stages"
  assert per_step == expected


def test_lookbehind_calls_k_times():
  per_step, _ = count_closure_calls(flatopt.lookbehind(optax.sgd(0.1), ascent_steps=4))
  assert per_step == [4] * NUM_STEPS


def test_ire_calls_as_refreshed():
  optimizer = flatopt.ire(
    curvature=flatopt.curvature.gauss_newton_bartlett(), update_interval=4, start_step=2
  )
  per_step, _ = count_closure_calls(optimizer)
  assert per_step == [int(t >= 2 and (t - 2) % 4 == 0) for t in range(NUM_STEPS)]


def test_nested_methods_are_counted():
  inner = flatopt.rst(flatopt.sam(), 0.5)
  base = optax.chain(
    inner,
    optax.sgd(0.1),
    flatopt.ire(curvature=flatopt.curvature.empirical_fisher(), update_interval=5),
  )
  per_step, states = count_closure_calls(flatopt.sala(base, sync_period=2, rho=10.0))
  assert int(flatopt.extra_gradient_evaluations(states[-1])) == sum(per_step)
  assert sum(per_step) > int(states[-1].extra_gradients)
