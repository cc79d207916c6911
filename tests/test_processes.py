"""Two processes of four devices each, over ``jax.distributed``, equal one process of eight."""

import json
import sys

import numpy as np

from tests.processes import run_processes

# Both a test and the program that its processes run: each prints its end as JSON.
if __name__ == "__main__":
  import jax

  address, num_processes, process_id = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
  if num_processes > 1:
    jax.distributed.initialize(address, num_processes, process_id)
  jax.config.update("jax_enable_x64", True)

  import optax
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  import flatopt
  from tests import problem
  from tests.versions import pcast

  def optimizers(**device):
    gnb = flatopt.curvature.gauss_newton_bartlett()
    return {
      "rst": optax.chain(flatopt.rst(flatopt.sam(0.1), **device), optax.sgd(0.1)),
      "ire": optax.chain(flatopt.ire(rho=0.1, curvature=gnb, **device), optax.sgd(0.1)),
      "sala": flatopt.sala(optax.sgd(0.1), sync_period=2, rho=0.5, **device),
      "lookbehind": flatopt.lookbehind(optax.sgd(0.1), ascent_steps=2, **device),
    }

  mesh = Mesh(np.array(jax.devices()), ("devices",))
  by_device, everywhere = PartitionSpec("devices"), PartitionSpec()

  def globalise(tree, spec):
    """A global array from what every process computes alike."""
    sharding = NamedSharding(mesh, spec)
    make = lambda x: jax.make_array_from_callback(
      x.shape, sharding, lambda index: np.asarray(x)[index]
    )
    return jax.tree.map(make, tree)

  def per_device_step(optimizer):
    def step(params, state, batch):
      fns = problem.closures(batch)
      grads = fns["grad_fn"](pcast(params, "devices", to="varying"))
      updates, state = optimizer.update(grads, state, params, **fns)
      return optax.apply_updates(params, updates), state

    specs = (everywhere, everywhere, by_device)
    return jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=specs[:2])

  ends = {}
  for kind, device in (("jit", {}), ("shard_map", {"axis_name": "devices"})):
    for name, optimizer in optimizers(**device).items():
      step = jax.jit((problem.make_step if kind == "jit" else per_device_step)(optimizer))
      params = problem.make_params()
      carry = globalise((params, optimizer.init(params)), everywhere)
      for seed in range(6):
        carry = step(*carry, globalise(problem.make_batch(seed, size=64), by_device))
      leaves = jax.tree.leaves(carry[0])
      ends[f"{kind} {name}"] = [np.ravel(x.addressable_data(0)).tolist() for x in leaves]
  print(json.dumps(ends))


PROGRAM = "-m", "tests.test_processes"


def test_two_processes_equal_one():
  first, second, alone = *run_processes(PROGRAM, 2), *run_processes(PROGRAM, 1)
  assert len(first) == 8
  for name, leaves in alone.items():
    for a, b, c in zip(first[name], second[name], leaves, strict=True):
      np.testing.assert_array_equal(a, b, err_msg=name)
      np.testing.assert_allclose(a, c, rtol=1e-12, atol=1e-14, err_msg=name)
