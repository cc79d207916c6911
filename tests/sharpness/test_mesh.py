"""Measures of sharded params, on meshes with explicit and with automatic axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flatopt import sharpness

SPECS = {
  "hidden": PartitionSpec("data", "model"),
  "out": PartitionSpec("model"),
  "scale": PartitionSpec(),
}
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8)), jnp.float32)
OPTIONS = {"num_matvecs": 6, "key": 0}


def loss_fn(params, inputs):
  return jnp.mean((jnp.tanh(inputs @ params["hidden"]) * params["out"] * params["scale"] - 1) ** 2)


def make_params():
  draw = lambda seed, *shape: jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )
  return {"hidden": draw(1, 8, 4), "out": draw(2, 4), "scale": draw(3)}


loss = lambda w: loss_fn(w, INPUTS[0])
MEASURES = {
  "product": lambda w: sharpness.hessian_vector_product(jax.grad(loss), w, w),
  "top": lambda w: sharpness.top_eigenvalues(jax.grad(loss), w, num=2, **OPTIONS),
  "low memory": lambda w: sharpness.top_eigenvalues(jax.grad(loss), w, basis_size=4, **OPTIONS),
  "smallest": lambda w: sharpness.smallest_eigenvalues(jax.grad(loss), w, **OPTIONS)[0],
  "masked": lambda w: sharpness.top_eigenvalues(
    jax.grad(loss), w, num_matvecs=4, mask={"hidden": False, "out": True, "scale": False}, key=0
  ),
  "density": lambda w: sharpness.spectral_density(jax.grad(loss), w, num_samples=2, **OPTIONS),
  "trace": lambda w: sharpness.trace(jax.grad(loss), w, num_samples=3, key=0),
  "average": lambda w: sharpness.average(loss, w, sigma=0.1, num_samples=3, key=0),
  "ascent": lambda w: sharpness.ascent(loss, w, rho=0.1, num_steps=2, eta=0.1),
  "landscape": lambda w: sharpness.loss_landscape(
    loss, w, sharpness.filter_normalized_directions(w, key=0), resolution=3
  ),
  "over_batches": lambda w: sharpness.trace(
    jax.grad(sharpness.over_batches(loss_fn, INPUTS)), w, num_samples=3, key=0
  ),
  "mean operator": lambda w: sharpness.trace(
    sharpness.over_batches(sharpness.hessian(jax.grad(loss_fn)), INPUTS), w, num_samples=3, key=0
  ),
}


@functools.cache
def on_one_device(name):
  return jax.jit(MEASURES[name])(make_params())


def with_signs_of(expected, found):
  """The eigenvectors, along the first axis of every leaf, of which the negative ones are as good."""
  rows = lambda tree: np.hstack([np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(tree)])
  signs = np.sign(np.sum(rows(expected) * rows(found), axis=1))
  return jax.tree.map(lambda x: (np.asarray(x).T * signs).T, found)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", MEASURES)
def test_sharded_params_give_the_same(name, kind):
  mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))
  shardings = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
  sharded = jax.device_put(make_params(), shardings)
  found = jax.jit(MEASURES[name])(sharded)
  expected = on_one_device(name)
  if name in ("top", "low memory", "masked"):
    found = found[0], with_signs_of(expected[1], found[1])
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-4)
  if name == "product" and kind == AxisType.Explicit:
    for x, sharding in zip(jax.tree.leaves(found), jax.tree.leaves(shardings), strict=True):
      assert x.sharding.is_equivalent_to(sharding, x.ndim)
