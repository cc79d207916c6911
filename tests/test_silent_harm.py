"""What would do harm without a word: replicas that drift apart, programs compiled every step."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import flatopt
from flatopt.curvature import gauss_newton_bartlett
from tests import problem
from tests.versions import pcast

BASE = optax.sgd(0.1)
METHODS = {
  "sam": lambda **d: optax.chain(flatopt.sam(**d), BASE),
  "rst": lambda **d: optax.chain(flatopt.rst(flatopt.sam(**d), **d), BASE),
  "ire": lambda **d: optax.chain(
    flatopt.sam(**d), BASE, flatopt.ire(curvature=gauss_newton_bartlett(), **d)
  ),
  "sala": lambda **d: flatopt.sala(BASE, **d),
  "lookbehind": lambda **d: flatopt.lookbehind(BASE, ascent_steps=2, **d),
}
WARNING = r"{}: runs on the devices of axis 'data' with axis_name=None.*axis_name='data'"


def step_of(optimizer, transform=lambda grads: grads):
  """A step in a trainer that averages its gradient; ``transform`` is what the closure adds."""

  def step(params, state, batch):
    fns = problem.closures(batch)
    closures = {
      "grad_fn": lambda p: transform(fns["grad_fn"](p)),
      "sampled_grad_fn": lambda p, key: transform(fns["sampled_grad_fn"](p, key)),
    }
    grads = jax.lax.pmean(fns["grad_fn"](params), "data")
    updates, state = optimizer.update(grads, state, params, **closures)
    return optax.apply_updates(params, updates), state

  return step


def pmapped(step, optimizer):
  params = problem.make_params()
  batch = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), problem.make_batch())
  mapped = jax.pmap(step, axis_name="data", in_axes=(None, None, 0), devices=jax.devices()[:2])
  return mapped(params, optimizer.init(params), batch)[0]


@pytest.mark.parametrize("name", METHODS)
def test_replicas_that_drift_apart_are_warned_of(name):
  optimizer = METHODS[name]()
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pmapped(step_of(optimizer), optimizer)
  messages = [str(warning.message) for warning in caught]
  assert sum(re.match(WARNING.format(name), message) is not None for message in messages) == 1


def test_what_is_warned_of_happens():
  optimizer = METHODS["sam"]()
  with pytest.warns(UserWarning, match="replicas drift apart"):
    kernel = pmapped(step_of(optimizer), optimizer)["hidden"]["kernel"]
  assert np.any(kernel[0] != kernel[1])


@pytest.mark.parametrize("name", METHODS)
def test_a_closure_that_averages_is_not_warned_of(name):
  optimizer = METHODS[name]()
  average = lambda grads: jax.lax.pmean(grads, "data")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    params = pmapped(step_of(optimizer, average), optimizer)
  for leaf in jax.tree.leaves(params):
    np.testing.assert_array_equal(leaf[0], leaf[1])


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(check_vma):
  """With the check of varying axes, updates that vary where the params do not are meant."""
  optimizer = flatopt.sam()
  mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])

  def update(params, batch):
    fns = problem.closures(batch)
    local = pcast(params, "data", to="varying") if check_vma else params
    grads = fns["grad_fn"](local)
    updates, _ = optimizer.update(grads, optimizer.init(params), params, **fns)
    return jax.lax.pmean(jax.tree.map(jnp.sum, updates), "data")

  mapped = jax.shard_map(
    update,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec("data")),
    out_specs=PartitionSpec(),
    check_vma=check_vma,
  )
  with pytest.warns(UserWarning, match=WARNING.format("sam")):
    mapped(problem.make_params(), problem.make_batch())


def test_params_that_are_sharded_are_not_warned_of():
  """There is nothing to average where params and gradients vary alike."""
  mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
  optimizer = flatopt.sam()
  update = lambda w: optimizer.update(w, optimizer.init(w), w, grad_fn=lambda w: w)[0]
  spec = PartitionSpec("data")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    jax.shard_map(update, mesh=mesh, in_specs=spec, out_specs=spec)(jnp.ones(2))


EAGER = {
  "sam": flatopt.sam(),
  "asam": flatopt.asam(),
  "gsam": flatopt.gsam(),
  "looksam": flatopt.looksam(update_interval=2),
  "friendly_sam": flatopt.friendly_sam(),
  "rst": flatopt.rst(flatopt.sam(), lambda count: count % 2),
  "sala": flatopt.sala(BASE, sync_period=2),
  "lookahead": flatopt.lookahead(BASE, sync_period=2),
  "momentum_sam": flatopt.momentum_sam(BASE),
  "ire": flatopt.ire(curvature=gauss_newton_bartlett(), update_interval=2),
}


def eager_step(optimizer, params, state):
  grad_fn = lambda params: jax.tree.map(lambda w: 2 * w, params)
  sampled_grad_fn = lambda params, key: grad_fn(params)
  updates, state = optimizer.update(
    grad_fn(params), state, params, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
  )
  return optax.apply_updates(params, updates), state


@pytest.mark.parametrize("name", EAGER)
def test_eager_updates_with_a_fresh_lambda_compile_once(name):
  """Nothing is compiled after the first steps, although the closure is a new function each time."""
  optimizer = EAGER[name]
  params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
  state = optimizer.init(params)
  compiled = []
  listen = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    for i in range(8):
      if i == 4:  # both sides of every branch have been taken
        jax.jit(lambda: 1)()
        assert compiled, "the listener hears of compilations"
        compiled.clear()
      params, state = eager_step(optimizer, params, state)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert compiled == []


@pytest.mark.parametrize("outer", [flatopt.rst, flatopt.g_rst])
def test_a_method_that_is_averaged_from_outside_is_not_warned_of(outer):
  optimizer = outer(flatopt.sam(), 1.0, axis_name="data")

  def step(params, state, batch):
    fns = problem.closures(batch)
    updates, state = optimizer.update(fns["grad_fn"](params), state, params, **fns)
    return optax.apply_updates(params, updates), state

  with warnings.catch_warnings():
    warnings.simplefilter("error")
    params = pmapped(step, optimizer)
  for leaf in jax.tree.leaves(params):
    np.testing.assert_array_equal(leaf[0], leaf[1])
