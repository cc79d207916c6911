"""Eight devices: replicas stay bit-identical, and the numbers are those of one device."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flatopt
from tests import problem
from tests.conformance.cases import CASES

AXIS = "devices"
NUM_DEVICES = 8
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def replicate(tree):
  return jax.tree.map(lambda x: jnp.stack([x] * NUM_DEVICES), tree)


def split(batch):
  return jax.tree.map(lambda x: x.reshape(NUM_DEVICES, -1, *x.shape[1:]), batch)


def mesh():
  return Mesh(np.array(jax.devices()), (AXIS,))


def shard_mapped_step(optimizer):
  """A step that checks varying axes: params are cast before they are differentiated."""

  def step(params, state, batch):
    fns = problem.closures(batch)
    grads = fns["grad_fn"](jax.lax.pcast(params, AXIS, to="varying"))
    updates, state = optimizer.update(grads, state, params, **fns)
    return optax.apply_updates(params, updates), state

  specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS))
  return jax.jit(jax.shard_map(step, mesh=mesh(), in_specs=specs, out_specs=specs[:2]))


@each_case
def test_replicas_are_bit_identical(x64, case):
  """``pmap`` on different data leaves params and state alike on all devices.

  ``shard_map`` gives the same numbers, with its check of varying axes on, which proves the
  replicas equal.
  """
  optimizer = case.make(axis_name=AXIS)
  params = problem.make_params()
  state = optimizer.init(params)
  mapped, replicated = (params, state), (replicate(params), replicate(state))
  step = shard_mapped_step(optimizer)
  pmapped_step = jax.pmap(problem.make_step(optimizer), axis_name=AXIS)
  for seed in range(20):
    batch = problem.make_batch(seed, size=64)
    replicated = pmapped_step(*replicated, split(batch))
    if seed < 3:
      mapped = step(*mapped, batch)
      first = jax.tree.map(lambda x: np.asarray(x)[0], replicated)
      chex.assert_trees_all_close(mapped, first, rtol=1e-10, atol=1e-12)
  for leaf in jax.tree.leaves(replicated):
    leaf = np.asarray(leaf)
    assert np.isfinite(leaf).all()
    assert (leaf == leaf[:1]).all()


SYNCHRONISED = {
  "sam": lambda **d: optax.chain(flatopt.sam(0.1, **d), optax.sgd(0.1)),
  "asam": lambda **d: optax.chain(flatopt.asam(0.5, **d), optax.sgd(0.1)),
  "ire_drift": lambda **d: optax.chain(
    flatopt.ire_drift(0.1, update_interval=2, **d), optax.sgd(0.1)
  ),
  "sala": lambda **d: flatopt.sala(optax.sgd(0.1), sync_period=2, rho=0.3, **d),
  "lookbehind": lambda **d: flatopt.lookbehind(optax.sgd(0.1), ascent_steps=2, **d),
}


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_synchronised_perturbation_is_the_global_batch(x64, name):
  """Eight devices with an eighth of the batch each do what one does with all of it."""
  make = SYNCHRONISED[name]
  on_devices, on_one = make(axis_name=AXIS, sync_perturbation=True), make()
  params = problem.make_params()
  many = params, on_devices.init(params)
  one = params, on_one.init(params)
  step, one_step = shard_mapped_step(on_devices), jax.jit(problem.make_step(on_one))
  for seed in range(6):
    batch = problem.make_batch(seed, size=64)
    many, one = step(*many, batch), one_step(*one, batch)
  chex.assert_trees_all_close(many, one, rtol=1e-10, atol=1e-12)


def test_m_sharpness_is_the_mean_of_the_devices_own_sam_gradients(x64):
  params = problem.make_params()
  batch = problem.make_batch(size=64)
  optimizer = flatopt.sam(0.1, axis_name=AXIS)
  update = lambda p, b: optimizer.update(
    jax.grad(problem.loss_fn)(p, b), optimizer.init(p), p, **problem.closures(b)
  )[0]
  actual = jax.pmap(update, axis_name=AXIS, in_axes=(None, 0))(params, split(batch))

  def sam_gradient(piece):
    grads = jax.grad(problem.loss_fn)(params, piece)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
    perturbed = jax.tree.map(lambda w, g: w + 0.1 * g / norm, params, grads)
    return jax.grad(problem.loss_fn)(perturbed, piece)

  pieces = [jax.tree.map(lambda x, i=i: x[i], split(batch)) for i in range(NUM_DEVICES)]
  expected = jax.tree.map(lambda *g: sum(g) / NUM_DEVICES, *map(sam_gradient, pieces))
  chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], actual), expected, rtol=1e-10)


def test_updates_that_do_not_vary_raise():
  """Such gradients are already summed over devices: too large by their number."""
  optimizer = flatopt.sam(0.1, axis_name=AXIS)

  def update(params, batch):
    fns = problem.closures(batch)
    return optimizer.update(fns["grad_fn"](params), optimizer.init(params), params, **fns)[0]

  mapped = jax.shard_map(
    update,
    mesh=mesh(),
    in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
    out_specs=PartitionSpec(),
  )
  with pytest.raises(ValueError, match=r"sam: updates do not vary over axis_name='devices'.*pcast"):
    mapped(problem.make_params(), problem.make_batch(size=64))


@each_case
def test_sharded_params_under_jit(x64, case):
  """Nothing to do under ``jit``: state and updates keep the params' sharding."""
  sharding = NamedSharding(mesh(), PartitionSpec(AXIS))
  weights = {"kernel": jnp.linspace(-1, 1, 64).reshape(16, 4), "other": jnp.linspace(0.5, 2, 8)}
  inputs = problem.make_batch().inputs

  def loss_fn(w):
    return jnp.mean(jnp.tanh(inputs @ w["kernel"].reshape(4, 16)) ** 2) + jnp.sum(w["other"] ** 4)

  closures = {
    "grad_fn": jax.grad(loss_fn),
    "sampled_grad_fn": lambda w, key: jax.tree.map(jnp.cos, jax.grad(loss_fn)(w)),
  }
  optimizer = case.make()

  @jax.jit
  def step(w, state):
    updates, state = optimizer.update(closures["grad_fn"](w), state, w, **closures)
    return optax.apply_updates(w, updates), state

  ends = []
  for w in (weights, jax.device_put(weights, sharding)):
    state = optimizer.init(w)
    for _ in range(4):
      w, state = step(w, state)
    ends.append((w, state))
  chex.assert_trees_all_close(*ends, rtol=1e-10, atol=1e-12)
  for leaf in jax.tree.leaves(ends[1]):
    if leaf.size > 8:
      assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
