"""Eight devices: replicas stay bit-identical, and the numbers are those of one device."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

import flatopt
from tests import problem
from tests.conformance.cases import each_case_and_dtype
from tests.methods import METHODS, with_argument
from tests.versions import pcast

AXIS = "devices"
NUM_DEVICES = 8
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def assert_close(actual, expected, dtype):
  tolerance = TOLERANCE[dtype.name]
  chex.assert_trees_all_close(actual, expected, rtol=tolerance, atol=tolerance)


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
    grads = fns["grad_fn"](pcast(params, AXIS, to="varying"))
    updates, state = optimizer.update(grads, state, params, **fns)
    return optax.apply_updates(params, updates), state

  specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS))
  return jax.jit(jax.shard_map(step, mesh=mesh(), in_specs=specs, out_specs=specs[:2]))


@each_case_and_dtype
def test_replicas_are_bit_identical(dtype, case):
  """``pmap`` on different data leaves params and state alike on all devices.

  ``shard_map`` gives the same numbers, with its check of varying axes on, which proves the
  replicas equal; and so does one device that steps through the parts by ``vmap``.
  """
  optimizer = case.make(axis_name=AXIS)
  params = problem.make_params()
  state = optimizer.init(params)
  mapped, replicated = (params, state), (replicate(params), replicate(state))
  alone = replicated
  step = shard_mapped_step(optimizer)
  pmapped_step = jax.pmap(problem.make_step(optimizer), axis_name=AXIS)
  one_device_step = jax.jit(jax.vmap(problem.make_step(optimizer), axis_name=AXIS))
  for seed in range(20):
    batch = problem.make_batch(seed, size=64)
    replicated = pmapped_step(*replicated, split(batch))
    if seed < 4:
      mapped = step(*mapped, batch)
      alone = one_device_step(*alone, split(batch))
      assert_close(replicated[0], alone[0], dtype)
      assert_close(mapped[0], jax.tree.map(lambda x: x[0], alone[0]), dtype)
  for leaf in jax.tree.leaves(replicated):
    leaf = np.asarray(leaf)
    assert np.isfinite(leaf).all()
    assert (leaf == leaf[:1]).all()


SYNCHRONISED = {
  "sam": lambda **d: optax.chain(flatopt.sam(0.1, **d), optax.sgd(0.1)),
  "sam_ascent": lambda **d: optax.chain(
    flatopt.sam(0.1, ascent=optax.scale_by_rms(), **d), optax.sgd(0.1)
  ),
  "asam": lambda **d: optax.chain(flatopt.asam(0.5, **d), optax.sgd(0.1)),
  "ire_rho": lambda **d: optax.chain(flatopt.ire(rho=0.1, update_interval=2, **d), optax.sgd(0.1)),
  "sala": lambda **d: flatopt.sala(optax.sgd(0.1), sync_period=2, rho=0.3, **d),
  "lookbehind": lambda **d: flatopt.lookbehind(
    optax.sgd(0.1), ascent_steps=2, interpolation="adaptive", **d
  ),
}


@pytest.mark.parametrize("name", SYNCHRONISED)
def test_synchronised_perturbation_is_the_global_batch(dtype, name):
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
  assert_close(many, one, dtype)


def test_m_sharpness_is_the_mean_of_the_devices_own_sam_gradients(dtype):
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
  assert_close(jax.tree.map(lambda x: x[0], actual), expected, dtype)


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


@pytest.mark.parametrize("name", with_argument("axis_name"))
def test_devices_end_alike_whatever_their_gradients(name):
  method, w = METHODS[name](axis_name="batch"), jnp.array([1.0, -2.0, 3.0])

  def two_updates(own):
    fns = {"grad_fn": lambda w: own * w**3, "sampled_grad_fn": lambda w, key: own * w}
    state = method.init(w)
    for _ in range(2):
      output, state = method.update(own * w, state, w, **fns)
    return output, state

  ends = jax.vmap(two_updates, axis_name="batch")(jnp.array([[1.0, 2.0, 3.0], [5.0, 3.0, -1.0]]))
  for leaf in jax.tree.leaves(ends):
    np.testing.assert_array_equal(leaf[0], leaf[1])
