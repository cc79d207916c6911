"""Shardings, as optax's own tests ask: a state keeps its types; gradients may lie as in ZeRO-1."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.conformance.cases import CASES, each_case_in_time
from tests.versions import set_mesh

SPECS = {"kernel": PartitionSpec(None, "x"), "bias": PartitionSpec("x")}
BASE = optax.sgd(0.1)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def make_params():
  rng = np.random.default_rng(0)
  return {
    "kernel": jnp.asarray(rng.normal(size=(2, 8, 4))),
    "bias": jnp.asarray(rng.normal(size=8)),
  }


def closures(reshard=lambda grads: grads):
  scale = lambda factor, tree: reshard(jax.tree.map(lambda w: factor * w + w**3, tree))
  return {"grad_fn": lambda p: scale(2, p), "sampled_grad_fn": lambda p, key: scale(3, p)}


def on_mesh(kind):
  """The mesh, and the params in shards and whole."""
  mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
  shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
  params = make_params()
  whole = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
  return mesh, jax.device_put(params, shardings), whole


def step_of(case, reshard=lambda grads: grads):
  fns = closures(reshard)
  update = case.make(base=BASE).update
  return lambda state, params: update(fns["grad_fn"](params), state, params, **fns)


def types(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, jax.typeof(x).sharding.spec), tree)


@each_case
def test_types_of_updates_and_state(x64, case):
  """Those of the params and of ``init``; and ``init`` is the same under jit."""
  mesh, params, _ = on_mesh(AxisType.Explicit)
  init = case.make(base=BASE).init
  with set_mesh(mesh):
    state = init(params)
    assert types(jax.eval_shape(init, params)) == types(state)
    updates, new_state = jax.eval_shape(step_of(case), state, params)
  assert types(new_state) == types(state)
  assert types(updates) == types(params)


def zero_1(case, kind):
  """Of each case, on ZeRO-1's layout: params whole, gradients and the optimizer's state in shards."""
  mesh, shards, whole = on_mesh(kind)
  move = jax.sharding.reshard if kind is AxisType.Explicit else jax.lax.with_sharding_constraint
  step = step_of(case, lambda grads: move(grads, jax.tree.map(lambda x: x.sharding, shards)))
  with set_mesh(mesh):
    return jax.jit(step)(case.make(base=BASE).init(shards), whole)


def assert_like_one_device(case, found):
  params = make_params()
  expected, _ = step_of(case)(case.make(base=BASE).init(params), params)
  chex.assert_trees_all_close(found, expected, rtol=1e-12)


@each_case_in_time
def test_gradients_sharded_unlike_params(x64, case):
  updates, _ = zero_1(case, AxisType.Auto)
  assert_like_one_device(case, updates)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("sam", "ire", "lookbehind")])
def test_gradients_sharded_unlike_params_as_types(x64, case):
  updates, _ = zero_1(case, AxisType.Explicit)
  assert_like_one_device(case, updates)


@pytest.mark.parametrize("case", [c for c in CASES if c.name == "sala"])
def test_weights_that_are_sharded_unlike_params_raise(x64, case):
  """JAX selects between the slow weights and the params only if they have the same type."""
  with pytest.raises(Exception, match="must have the same shardings"):
    zero_1(case, AxisType.Explicit)
