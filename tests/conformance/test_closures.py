"""Twenty steps on gradients that are accumulated in parts are twenty steps on whole batches."""

import chex
import jax
import optax

from flatopt.closures import micro_grad_fn
from tests import problem
from tests.conformance.cases import each_case_and_dtype

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


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


@each_case_and_dtype
def test_micro_batched_steps_are_whole_steps(dtype, case):
  tolerance = TOLERANCE[dtype.name]
  chex.assert_trees_all_close(*ends(case.make()), rtol=tolerance, atol=tolerance)
