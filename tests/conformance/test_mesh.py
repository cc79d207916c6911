"""``jit`` over a (data, model) mesh: the numbers of one device, every array where it was put."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests import problem
from tests.conformance.cases import each_case_and_dtype

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
MESH_SHAPE = {"float32": (2, 4), "float64": (4, 2)}
NUM_STEPS = 6
# Split over the model axis, but "out" also over the data axis, as fully sharded params are.
SPECS = {
  "hidden": {"kernel": PartitionSpec(None, "model"), "bias": PartitionSpec("model")},
  "out": {"kernel": PartitionSpec("model", "data"), "bias": PartitionSpec()},
}


def make_params(dtype):
  """As the problem's, in sizes that eight devices divide; every leaf has its own shape."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[0]), dtype)
  return {
    "hidden": {"kernel": draw(problem.NUM_INPUTS, 16), "bias": draw(16)},
    "out": {"kernel": draw(16, 8), "bias": draw(8)},
  }


@each_case_and_dtype
def test_sharded_training_is_that_of_one_device(dtype, case):
  devices = np.array(jax.devices()).reshape(MESH_SHAPE[dtype.name])
  mesh = Mesh(devices, ("data", "model"))
  shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
  params = make_params(dtype)
  sharding_of = dict(
    zip(map(jnp.shape, jax.tree.leaves(params)), jax.tree.leaves(shardings), strict=True)
  )
  optimizer = case.make()
  step = jax.jit(problem.make_step(optimizer))
  sharded = jax.device_put(params, shardings)
  one, many = (params, optimizer.init(params)), (sharded, optimizer.init(sharded))
  for seed in range(NUM_STEPS):
    batch = problem.make_batch(seed)
    one = step(*one, batch)
    on_data = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    # Steps that queue up starve each other's collectives of the CPU's threads.
    many = jax.block_until_ready(step(*many, on_data))

  for leaf in jax.tree.leaves(many):
    if leaf.shape:
      assert leaf.sharding.is_equivalent_to(sharding_of[leaf.shape], leaf.ndim)
  tolerance = TOLERANCE[dtype.name]
  chex.assert_trees_all_close(many[0], one[0], rtol=tolerance, atol=tolerance)
