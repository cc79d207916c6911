"""Twenty steps on gradients that are accumulated in parts are twenty steps on whole batches."""

import chex
import jax
import optax
import pytest

from flatopt.closures import micro_grad_fn
from tests import problem
from tests.conformance.cases import CASES, ONE_OF_EACH_PLACE


def ends(optimizer):
  """The params after steps on whole batches, and after steps on batches in four parts."""

  def micro_step(params, state, batch):
    fns = problem.closures(batch)
    fns["grad_fn"] = micro_grad_fn(problem.loss_fn, batch, num_microbatches=4)
    updates, state = optimizer.update(fns["grad_fn"](params), state, params, **fns)
    return optax.apply_updates(params, updates), state

  params = problem.make_params()
  whole = micro = params, optimizer.init(params)
  step, micro_step = jax.jit(problem.make_step(optimizer)), jax.jit(micro_step)
  for seed in range(20):
    batch = problem.make_batch(seed)
    whole, micro = step(*whole, batch), micro_step(*micro, batch)
  return whole[0], micro[0]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_in_float64(x64, case):
  chex.assert_trees_all_close(*ends(case.make()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", ONE_OF_EACH_PLACE, ids=lambda c: c.name)
def test_in_float32(case):
  chex.assert_trees_all_close(*ends(case.make()), rtol=1e-5, atol=1e-5)
