"""Every method trained end to end in less than float32; docs/precision.md is the readers' page."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from tests import problem
from tests.conformance.cases import BASE, ONE_OF_EACH_PLACE, each_case_in_time
from tests.methods import METHODS, with_argument

GOOD_STEPS, MOST_OVERFLOWS = 60, 15
NEVER = 2**30
each_place = pytest.mark.parametrize(
  "case",
  [
    pytest.param(c, id=c.name, marks=() if c.name == "sam" else pytest.mark.slow)
    for c in ONE_OF_EACH_PLACE
  ],
)


class LossScale(NamedTuple):
  value: jax.Array
  good_steps: jax.Array

  def adjust(self, finite, growth_interval):
    good_steps = jnp.where(finite, self.good_steps + 1, 0)
    grow = good_steps == growth_interval
    factor = jnp.where(finite, jnp.where(grow, 2.0, 1.0), 0.5)
    return LossScale(self.value * factor, jnp.where(grow, 0, good_steps))


class History(NamedTuple):
  """One entry a step: the params and the scale that it ends with, and whether it overflowed."""

  params: optax.Params
  scale: jax.Array
  overflowed: jax.Array


def mean_loss(logits, labels):
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def closures(dtype, batch, scale, weight=1.0):
  """The model in ``dtype``, its loss in float32; gradients come unscaled, like the params."""

  def logits_fn(params):
    params, inputs = optax.tree.cast((params, batch.inputs), dtype)
    return problem.logits_fn(params, inputs).astype(jnp.float32)

  def loss_fn(params):
    return weight * mean_loss(logits_fn(params), batch.labels)

  def sampled_loss_fn(params, key):
    logits = logits_fn(params)
    return weight * mean_loss(logits, jax.random.categorical(key, jax.lax.stop_gradient(logits)))

  def unscaled_grad(loss_fn):
    def grad_fn(params, *args):
      grads = jax.grad(lambda p: scale * loss_fn(p, *args))(params)
      return jax.tree.map(lambda g: g / scale.astype(g.dtype), grads)

    return grad_fn

  return {"grad_fn": unscaled_grad(loss_fn), "sampled_grad_fn": unscaled_grad(sampled_loss_fn)}


def make_run(optimizer, dtype, weight=1.0):
  """``run(params, scale, growth_interval) -> History``; a static scale never grows."""
  batch = problem.make_batch(size=64, dtype=jnp.float32)
  # By the total: Lookbehind's base is asked several times a step.
  overflows = lambda state: optax.tree.get(state, "total_notfinite")

  def run(params, scale, growth_interval):
    def step(carry, _):
      params, state, loss_scale = carry
      fns = closures(dtype, batch, loss_scale.value, weight)
      updates, new_state = optimizer.update(fns["grad_fn"](params), state, params, **fns)
      params = optax.apply_updates(params, updates)
      overflowed = overflows(new_state) > overflows(state)
      loss_scale = loss_scale.adjust(~overflowed, growth_interval)
      return (params, new_state, loss_scale), History(params, loss_scale.value, overflowed)

    start = params, optimizer.init(params), LossScale(scale, jnp.int32(0))
    return jax.lax.scan(step, start, length=GOOD_STEPS + MOST_OVERFLOWS)[1]

  return jax.jit(run)


@functools.cache
def train(case, dtype="float32", params_dtype="float32", scale=1.0, growth_interval=NEVER):
  run = cached_run(case, dtype)
  return run(start(params_dtype), jnp.float32(scale), jnp.int32(growth_interval))


@functools.cache
def cached_run(case, dtype):
  return make_run(case.make(optax.apply_if_finite(BASE, max_consecutive_errors=100)), dtype)


def start(dtype="float32"):
  """Params that bfloat16 holds exactly."""
  return optax.tree.cast(problem.make_params(jnp.bfloat16), dtype)


def loss_of(params):
  batch = problem.make_batch(size=64, dtype=jnp.float32)
  return float(problem.loss_fn(optax.tree.cast(params, jnp.float32), batch))


def end_of(history):
  """The params after as many steps as count, the others not counted."""
  step = np.searchsorted(np.cumsum(~np.asarray(history.overflowed)), GOOD_STEPS)
  return jax.tree.map(lambda x: x[step], history.params)


def assert_trained(history, case, tolerance):
  """The loss falls, to where float32's falls."""
  end = loss_of(end_of(history))
  assert end < 0.9 * loss_of(start())
  assert end == pytest.approx(loss_of(end_of(train(case))), abs=tolerance)


@each_place
def test_bfloat16_compute(case):
  """The methods themselves see float32 here."""
  assert_trained(train(case, "bfloat16"), case, tolerance=0.01)


@each_place
def test_bfloat16_params(case):
  history = train(case, "bfloat16", params_dtype="bfloat16")
  assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(history.params))
  assert_trained(history, case, tolerance=0.02)


@each_place
def test_float16_with_a_static_loss_scale(case):
  history = train(case, "float16", scale=2.0**10)
  assert not history.overflowed.any()
  assert (history.scale == 2**10).all()
  assert_trained(history, case, tolerance=0.001)


@each_case_in_time
def test_float16_with_a_dynamic_loss_scale(case):
  """Overflows until the scale fits, and again whenever it has grown: no step of these counts.

  Only the methods' own counts run on, so that IRE's refreshes and Lookahead's synchronisations
  come earlier: hence the slack.
  """
  history = train(case, "float16", scale=2.0**24, growth_interval=8)
  overflowed = np.asarray(history.overflowed)
  first_good = int(np.argmin(overflowed))
  assert 0 < first_good < 10
  assert overflowed[GOOD_STEPS // 2 :].any()
  assert not overflowed[first_good:].all()
  for was, now in zip(jax.tree.leaves(start()), jax.tree.leaves(history.params), strict=True):
    np.testing.assert_array_equal(now[:first_good], np.broadcast_to(was, now[:first_good].shape))
    assert np.isfinite(now).all()
    assert not np.array_equal(now[first_good], was)

  scales = np.concatenate([[2.0**24], history.scale])
  ratios = scales[1:] / scales[:-1]
  assert set(ratios[overflowed]) == {0.5}
  assert set(ratios[~overflowed]) == {1.0, 2.0}
  assert_trained(history, case, tolerance=0.1)


def test_an_overflow_in_the_midst_of_training_is_skipped():
  """Behind SAM the params stay where they are; wrappers may be due to synchronise."""
  history = train(ONE_OF_EACH_PLACE[0], "float16", scale=2.0**24, growth_interval=8)
  for step in np.flatnonzero(history.overflowed)[1:]:
    for leaf in jax.tree.leaves(history.params):
      np.testing.assert_array_equal(leaf[step], leaf[step - 1])


@jax.numpy_dtype_promotion("standard")  # optax.adam itself promotes
def test_small_gradients_need_the_scale():
  """Gradients of a loss times 2^-20 vanish in float16, unless a scale carries them."""
  adam = optax.apply_if_finite(optax.adam(0.03, eps=1e-15), max_consecutive_errors=0)
  run = make_run(optax.chain(flatopt.sam(0.05), adam), jnp.float16, weight=2.0**-20)
  unscaled = run(start(), jnp.float32(1), jnp.int32(NEVER))
  scaled = run(start(), jnp.float32(2**24), jnp.int32(NEVER))
  assert loss_of(end_of(unscaled)) == loss_of(start())
  assert loss_of(end_of(scaled)) < 0.8 * loss_of(start())


@pytest.mark.parametrize("name", with_argument("axis_name"))
def test_means_over_devices_are_added_in_float32(name):
  """XLA adds so on CPUs whatever it is told, so the program is looked at."""
  method, w = METHODS[name](axis_name="batch"), jnp.ones(3, jnp.bfloat16)
  closures = {"grad_fn": lambda w: 2 * w, "sampled_grad_fn": lambda w, key: 2 * w}
  update = lambda g: method.update(g, method.init(w), w, **closures)
  program = str(jax.make_jaxpr(update, axis_env=[("batch", 2)])(w))
  assert re.search(r":f32\[3\] = psum", program)
  assert not re.search(r":bf16\[3\] = psum", program)
