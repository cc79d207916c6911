"""A model of its own on each device trains as it does alone, under ``shard_map`` and ``pmap``."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from tests import problem
from tests.conformance.cases import each_case_in_time

NUM_MODELS, NUM_STEPS = 2, 4
DEVICES = jax.devices()[:NUM_MODELS]
SEEDS = range(NUM_MODELS)


def stack(trees):
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def of_model(i, tree):
  return jax.tree.map(lambda leaf: leaf[i], tree)


def on_each_device(fn):
  def on_one_device(*args):
    return jax.tree.map(lambda leaf: leaf[None], fn(*of_model(0, args)))

  mesh, spec = Mesh(np.array(DEVICES), ("seed",)), PartitionSpec("seed")
  return jax.jit(jax.shard_map(on_one_device, mesh=mesh, in_specs=spec, out_specs=spec))


@pytest.mark.filterwarnings("error")
@each_case_in_time
def test_training(x64, case):
  optimizer = case.make(base=optax.sgd(0.1), shard_axes=())
  batch = problem.make_batch()

  def train(params, state):
    step = lambda carry, _: (problem.make_step(optimizer)(*carry, batch), None)
    (params, _), _ = jax.lax.scan(step, (params, state), length=NUM_STEPS)
    return params

  models = [problem.make_params(seed=seed) for seed in SEEDS]
  starts = [(params, optimizer.init(params)) for params in models]
  alone = stack([jax.jit(train)(*start) for start in starts])
  for train_all in (on_each_device(train), jax.pmap(train, devices=DEVICES)):
    chex.assert_trees_all_close(train_all(*stack(starts)), alone, rtol=1e-12)
