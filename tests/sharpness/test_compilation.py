"""A measure sees what its function sees at that moment, and keeps nothing between calls."""

import functools
import gc
import weakref
from typing import Any, NamedTuple

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt import sharpness

W = jnp.ones(2)


class Scaled:
  """A loss that reads an attribute."""

  def __init__(self, scale):
    self.scale = scale

  def __call__(self, w):
    return jnp.sum(self.scale * w**2)


@jax.tree_util.register_pytree_node_class
class Box(Scaled):
  def tree_flatten(self):
    return (self.scale,), None

  @classmethod
  def tree_unflatten(cls, _, leaves):
    return cls(*leaves)


class Variant(NamedTuple):
  """A loss ``sum(scale * w**2)`` with scale 1, and what sets the scale to 5 in the same object."""

  loss_fn: Any
  change: Any


def numpy_array():
  scale = np.ones(2)
  return Variant(lambda w: jnp.sum(scale * w**2), lambda: scale.fill(5.0))


def attribute():
  loss_fn = Scaled(1.0)
  return Variant(loss_fn, lambda: setattr(loss_fn, "scale", 5.0))


def array_in_an_attribute():
  loss_fn = Scaled(jnp.ones(2))
  return Variant(loss_fn, lambda: setattr(loss_fn, "scale", jnp.full(2, 5.0)))


def python_number():
  scale = {"scale": 1.0}
  return Variant(lambda w: jnp.sum(scale["scale"] * w**2), lambda: scale.update(scale=5.0))


def numpy_scalar():
  scale = [np.float32(1.0)]
  return Variant(lambda w: jnp.sum(scale[0] * w**2), lambda: scale.__setitem__(0, np.float32(5.0)))


def frozen_dict():
  box = [flax.core.FrozenDict(scale=jnp.ones(2))]
  change = lambda: box.__setitem__(0, flax.core.FrozenDict(scale=jnp.full(2, 5.0)))
  return Variant(lambda w: jnp.sum(box[0]["scale"] * w**2), change)


def registered_pytree():
  box = Box(jnp.ones(2))
  return Variant(lambda w: box(w), lambda: setattr(box, "scale", jnp.full(2, 5.0)))


def partial_pytree():
  scale = np.ones(2)
  loss_fn = jax.tree_util.Partial(lambda scale, w: jnp.sum(scale * w**2), scale)
  return Variant(loss_fn, lambda: scale.fill(5.0))


def over_batches():
  scale = np.ones(2)
  loss_fn = lambda w, batch: jnp.sum(scale * w**2) + batch
  return Variant(sharpness.over_batches(loss_fn, jnp.zeros(3)), lambda: scale.fill(5.0))


VARIANTS = [
  numpy_array,
  attribute,
  array_in_an_attribute,
  python_number,
  numpy_scalar,
  frozen_dict,
  registered_pytree,
  partial_pytree,
  over_batches,
]
# Each is 1 for the loss at scale 1, and 5 at scale 5.
FULL = {"num_matvecs": 2, "key": 0}
GRADIENT_MEASURES = {
  "hessian_vector_product": lambda fn: sharpness.hessian_vector_product(fn, W, W)[0] / 2,
  "top_eigenvalues": lambda fn: sharpness.top_eigenvalues(fn, W, **FULL)[0][0] / 2,
  "smallest_eigenvalues": lambda fn: sharpness.smallest_eigenvalues(fn, W, **FULL)[0][0] / 2,
  "trace": lambda fn: sharpness.trace(fn, W, num_samples=2, key=0).mean / 4,
  "spectral_density": lambda fn: (
    jnp.mean(sharpness.spectral_density(fn, W, num_samples=2, **FULL).grid) / 2
  ),
}
LOSS_MEASURES = {
  "ascent": lambda fn: sharpness.ascent(fn, W, rho=2**0.5) / 6,
  "average": lambda fn: sharpness.average(fn, 0 * W, sigma=1.0, num_samples=2, key=0).mean,
  "loss_landscape": lambda fn: sharpness.loss_landscape(fn, 0 * W, (W,), resolution=3)[0] / 2,
}


def measured(name, loss_fn, grad_fn):
  value = (
    LOSS_MEASURES[name](loss_fn) if name in LOSS_MEASURES else GRADIENT_MEASURES[name](grad_fn)
  )
  return float(value)


def cases():
  """Every variant with one measure of each kind, and every measure with one variant."""
  names = [*GRADIENT_MEASURES, *LOSS_MEASURES]
  pairs = [(variant, name) for variant in VARIANTS for name in ("trace", "ascent")]
  return pairs + [(numpy_array, name) for name in names if name not in ("trace", "ascent")]


@pytest.mark.parametrize(("variant", "name"), cases())
def test_a_change_is_seen_at_once(variant, name):
  loss_fn, change = variant()
  grad_fn = jax.grad(loss_fn)  # one object for both calls
  before = measured(name, loss_fn, grad_fn)
  change()
  assert measured(name, loss_fn, grad_fn) == pytest.approx(5 * before, rel=1e-5)
  if name != "average":  # the draws are random
    assert before == pytest.approx(1, rel=1e-5)


def test_a_closure_may_name_a_later_variable():
  loss_fn = lambda w: jnp.sum(scale * w**2) if W is not None else later
  scale = 1.0
  assert sharpness.trace(jax.grad(loss_fn), W, key=0).mean == 4
  later = 0.0


def test_a_function_without_a_hash():
  class Gradient:
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __call__(self, w):
      return 2 * w

  assert sharpness.trace(Gradient(), W, key=0).mean == 4
  on_host = sharpness.over_iterable(lambda w, _: Gradient()(w), [0])
  assert sharpness.trace(on_host, W, key=0).mean == 4


@pytest.mark.parametrize("transform", [jax.jit, lambda fn: fn], ids=["jit", "eager"])
def test_no_tracer_outlives_a_transformation(transform):
  measure = lambda scale: sharpness.trace(lambda w: scale * w, W, num_samples=1, key=0).mean
  with jax.checking_leaks():
    scales = transform(jax.vmap(measure))(jnp.array([2.0, 3.0]))
  np.testing.assert_array_equal(scales, [4, 6])


def test_nothing_keeps_the_data_alive():
  def measure_afresh(name):
    data = jnp.arange(2.0) + 1
    loss_fn = lambda w: jnp.sum(data * w**2)
    measured(name, loss_fn, jax.grad(loss_fn))
    return weakref.ref(data)

  references = [measure_afresh(name) for name in ("trace", "top_eigenvalues", "ascent")]
  gc.collect()
  assert [reference() for reference in references] == [None] * 3


def batch_loss_fn(w, batch):
  return jnp.mean(jnp.tanh(batch @ w) ** 2)


BATCHES = jnp.arange(12.0).reshape(2, 3, 2) / 10


def test_one_compiles_once_with_the_batch_as_an_argument(compilations):
  @jax.jit
  def measure(params, batch):
    grad_fn = jax.grad(lambda w: batch_loss_fn(w, batch))
    return sharpness.trace(grad_fn, params, num_samples=2, key=0).mean

  first = measure(W, BATCHES[0])
  compilations.clear()
  second = measure(W, BATCHES[1])
  assert not compilations
  assert first != second


def test_an_operator_is_a_pytree_that_may_be_an_argument(compilations):
  operator = sharpness.hessian(jax.grad(batch_loss_fn))
  measure = jax.jit(lambda operator, w: sharpness.trace(operator, w, num_samples=2, key=0).mean)
  first, second = (sharpness.over_batches(operator, x) for x in (BATCHES, 2 * BATCHES))
  before = measure(first, W)
  compilations.clear()
  after = measure(second, W)
  assert not compilations
  assert before != after


HOST_MEASURES = {
  "trace": lambda loss, grads, w: sharpness.trace(grads, w, num_samples=2, key=0).mean,
  "reverse": lambda loss, grads, w: (
    sharpness.trace(sharpness.hessian(grads, mode="reverse-reverse"), w, num_samples=2, key=0).mean
  ),
  "ascent": lambda loss, grads, w: sharpness.ascent(loss, w, rho=0.1, num_steps=2),
  "average": lambda loss, grads, w: (
    sharpness.average(loss, w, sigma=0.1, num_samples=2, key=0).mean
  ),
}


@pytest.mark.parametrize("name", HOST_MEASURES)
def test_over_iterable_compiles_its_function_once(name):
  traced = []

  def counted(fn):
    return lambda w, batch: traced.append(fn) or fn(w, batch)

  loss, grads = (
    sharpness.over_iterable(counted(fn), list(BATCHES))
    for fn in (batch_loss_fn, jax.grad(batch_loss_fn))
  )
  measure = functools.partial(HOST_MEASURES[name], loss, grads)
  first, count = measure(W), len(traced)
  assert measure(2 * W) != first
  assert len(traced) == count > 0
