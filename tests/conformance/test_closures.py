"""Twenty steps on gradients that are accumulated in parts are twenty steps on whole batches."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flatopt.closures import micro_value_and_grad
from tests import problem
from tests.conformance.cases import each_case_and_dtype
from tests.versions import set_mesh

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def ends(optimizer):
  """The params after steps on whole batches, and after steps on batches in four parts."""

  def micro_step(params, state, batch):
    fns = problem.closures(batch)
    step_fn = micro_value_and_grad(problem.loss_fn, num_microbatches=4)
    _, grads, fns["grad_fn"] = step_fn(params, batch)
    updates, state = optimizer.update(grads, state, params, **fns)
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


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_devices_share_every_part(kind):
  """64 examples in 4 parts on 8 devices: two rows at a time each, and no batch is gathered."""
  mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
  x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
  loss_fn = lambda w, x: jnp.mean((x @ w) ** 2)
  grads = lambda w, x: micro_value_and_grad(loss_fn, num_microbatches=4)(w, x)[1]
  with set_mesh(mesh):
    w = jax.device_put(jnp.ones((3, 5)), NamedSharding(mesh, PartitionSpec()))
    on_data = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    compiled = jax.jit(grads).lower(w, on_data).compile()
    found = jax.device_get(compiled(w, on_data))
  program = compiled.as_text()
  assert set(re.findall(r"f32\[(\d+),5\]", program)) == {"2", "3"}  # of the products, and of w
  assert "all-gather" not in program
  np.testing.assert_allclose(found, jax.grad(loss_fn)(jnp.ones((3, 5)), x), rtol=1e-5)
