"""What an IRE refresh sends between devices: scalars, and never a params-sized array."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flatopt
from benchmarks.collectives import collectives
from flatopt.curvature import gauss_newton_bartlett, hutchinson

SHAPES = {"wide": (64, 128), "tall": (256, 32)}
SHARD_SIZE = 64 * 128 // 8
_rng = np.random.default_rng(0)
INPUTS = {
  name: jnp.asarray(_rng.normal(size=(2, rows)), jnp.float32) for name, (rows, _) in SHAPES.items()
}


def loss_fn(params):
  outputs = {name: jnp.tanh(INPUTS[name] @ w) for name, w in params.items()}
  return sum(jnp.mean(z**2) for z in outputs.values())


def sampled_grad_fn(params, key):
  """Labels that differ from the outputs by the unit noise of a Gaussian likelihood."""

  def sampled_loss(params):
    outputs = {name: jnp.tanh(INPUTS[name] @ w) for name, w in params.items()}
    noise = optax.tree.random_like(key, outputs, jax.random.normal)
    labels = jax.lax.stop_gradient(optax.tree.add(outputs, noise))
    return sum(jnp.mean((outputs[name] - labels[name]) ** 2) for name in outputs)

  return jax.grad(sampled_loss)(params)


def sharded_params():
  """One param on its leading axis, one on its trailing axis."""
  mesh = Mesh(np.array(jax.devices()), ("devices",))
  specs = {"wide": PartitionSpec(None, "devices"), "tall": PartitionSpec("devices")}
  return {
    name: jax.device_put(
      jnp.asarray(_rng.normal(size=shape), jnp.float32) / 8, NamedSharding(mesh, specs[name])
    )
    for name, shape in SHAPES.items()
  }


def sent(fn, *args):
  """The collectives of the compiled program."""
  return collectives(jax.jit(fn).lower(*args).compile().as_text())


def large(found):
  """Those that move a device's part of a param or more."""
  return [c for c in found if any(entries >= SHARD_SIZE for entries, _ in c.arrays)]


@pytest.mark.parametrize(
  "estimator", [hutchinson(), gauss_newton_bartlett()], ids=["hutchinson", "gauss_newton_bartlett"]
)
@pytest.mark.parametrize("rho", [None, 0.05])
def test_a_refresh_gathers_no_params(estimator, rho):
  params = sharded_params()
  assert large(sent(jax.grad(loss_fn), params)) == []
  assert large(sent(sampled_grad_fn, params, jax.random.key(0))) == []

  optimizer = flatopt.ire(rho=rho, curvature=estimator, decay=0.9, update_interval=1)
  fns = {"grad_fn": jax.grad(loss_fn), "sampled_grad_fn": sampled_grad_fn}
  update = lambda w, state: optimizer.update(fns["grad_fn"](w), state, w, **fns)
  found = sent(update, params, optimizer.init(params))
  assert any(c.kind == "all-reduce" for c in found), "counts cross devices"
  assert large(found) == []


def test_a_sort_would_be_seen():
  """What ``kth_smallest`` is there to avoid, so that the test above can fail."""
  by_sorting = lambda w: jnp.sort(jnp.concatenate(list(map(jnp.ravel, w.values()))))[7]
  assert large(sent(by_sorting, sharded_params()))
  assert not large(sent(lambda w: flatopt.kth_smallest(w, 7), sharded_params()))
