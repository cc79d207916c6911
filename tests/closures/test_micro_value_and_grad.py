"""Accumulation keeps the loss, aux, BatchNorm's statistics and dropout keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax.sharding import AxisType, PartitionSpec

from flatopt.closures import micro_value_and_grad
from tests.versions import pcast

_rng = np.random.default_rng(0)
INPUTS, TARGETS = _rng.normal(size=(12, 3)), _rng.normal(size=12)
W, ELSEWHERE = np.array([0.3, -0.7, 1.1]), np.array([-0.2, 0.4, 0.9])


def loss_fn(w, batch):
  x, y = batch
  residuals = x @ w - y
  return jnp.mean(residuals**4), residuals


def gradient(w):
  return np.mean(4 * (INPUTS @ w - TARGETS)[:, None] ** 3 * INPUTS, axis=0)


@pytest.mark.parametrize(("num_microbatches", "unroll"), [(1, 1), (3, 1), (12, 4), (4, True)])
def test_right_values(x64, num_microbatches, unroll):
  step_fn = micro_value_and_grad(loss_fn, num_microbatches, has_aux=True, unroll=unroll)
  (loss, aux), grads, grad_fn = step_fn(W, (jnp.asarray(INPUTS), TARGETS))
  residuals = INPUTS @ W - TARGETS
  np.testing.assert_allclose(loss, np.mean(residuals**4), rtol=1e-12)
  np.testing.assert_allclose(grads, gradient(W), rtol=1e-12)
  np.testing.assert_allclose(grad_fn(ELSEWHERE), gradient(ELSEWHERE), rtol=1e-12)
  parts = [residuals[i::num_microbatches] for i in range(num_microbatches)]
  np.testing.assert_allclose(aux, np.stack(parts), rtol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_without_aux_the_value_is_the_loss(x64, dtype, tolerance):
  w, inputs, targets = (jnp.asarray(x, dtype) for x in (W, INPUTS, TARGETS))
  step_fn = micro_value_and_grad(lambda w, batch: loss_fn(w, batch)[0], 3)
  loss, grads, _ = step_fn(w, (inputs, targets))
  assert loss.dtype == grads.dtype == dtype
  np.testing.assert_allclose(loss, np.mean((INPUTS @ W - TARGETS) ** 4), rtol=tolerance)
  np.testing.assert_allclose(grads, gradient(W), rtol=tolerance)


def masked_mean_loss(w, batch):
  x, mask = batch
  return jnp.mean((w - x) ** 2, where=mask), jnp.sum(mask)


@pytest.mark.parametrize("count", [jnp.sum, lambda mask: jnp.mean(mask, dtype=float)])
def test_weights_make_a_mean_over_tokens(x64, count):
  """Of unequal parts: of three and of one token; of none, whose own loss is NaN."""
  tokens = jnp.array([[1.0, 2.0, 3.0], [6.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
  mask = jnp.array([[True, True, True], [True, False, False], [False, False, False]])
  step_fn = micro_value_and_grad(
    masked_mean_loss, 3, has_aux=True, weight_fn=lambda batch: count(batch[1])
  )
  (loss, counts), grads, grad_fn = step_fn(jnp.array(0.0), (tokens, mask))
  seen = np.array([1.0, 2.0, 3.0, 6.0])
  np.testing.assert_allclose(loss, np.mean(seen**2), rtol=1e-12)
  np.testing.assert_allclose(grads, -2 * np.mean(seen), rtol=1e-12)
  np.testing.assert_allclose(grad_fn(jnp.array(1.0)), 2 * np.mean(1 - seen), rtol=1e-12)
  assert counts.tolist() == [3, 1, 0]
  (loss, _), grads, _ = step_fn(jnp.array(0.0), (tokens, jnp.zeros_like(mask)))
  assert np.isnan(loss)
  assert np.isnan(grads)


def test_sums_bfloat16_in_float32():
  """512 losses and gradients of 1: a bfloat16 sum would stop at 256."""
  w = jnp.ones(2, jnp.bfloat16)
  batch = jnp.ones((512, 2), jnp.bfloat16)
  loss, grads, grad_fn = micro_value_and_grad(lambda w, x: jnp.mean(x @ w), 512)(w, batch)
  assert {loss.dtype, grads.dtype} == {jnp.dtype(jnp.bfloat16)}
  assert loss == 2
  assert grads.astype(float).tolist() == grad_fn(w).astype(float).tolist() == [1, 1]


def test_transform_comes_after_the_mean(x64):
  """The microbatches' gradients differ, so that a mean of unit vectors would be shorter."""
  unit = lambda grads: grads / jnp.linalg.norm(grads)
  step_fn = micro_value_and_grad(loss_fn, 4, has_aux=True, transform=unit)
  _, grads, grad_fn = step_fn(W, (jnp.asarray(INPUTS), TARGETS))
  for found, w in ((grads, W), (grad_fn(ELSEWHERE), ELSEWHERE)):
    np.testing.assert_allclose(found, gradient(w) / np.linalg.norm(gradient(w)), rtol=1e-12)


def test_one_microbatch_at_a_time_in_both_passes():
  seen = []

  def loss_fn(w, x):
    seen.append(x.shape)
    return jnp.mean(x @ w)

  _, _, grad_fn = micro_value_and_grad(loss_fn, 4)(jnp.zeros(3), jnp.zeros((12, 3)))
  in_clean_pass = len(seen)
  grad_fn(jnp.zeros(3))
  assert len(seen) > in_clean_pass
  assert set(seen) == {(3, 3)}


def test_batch_norm_statistics_survive():
  """Every part starts from the old statistics; the mean of the new ones is one moved average."""
  norm = linen.BatchNorm(use_running_average=False, momentum=0.9)
  x = jnp.asarray(INPUTS, jnp.float32)
  variables = norm.init(jax.random.key(0), x)

  def loss_fn(params, x):
    y, changed = norm.apply({**variables, "params": params}, x, mutable=["batch_stats"])
    return jnp.mean(y**3), changed["batch_stats"]

  step_fn = jax.jit(lambda *args: micro_value_and_grad(loss_fn, 3, has_aux=True)(*args)[0])
  _, statistics = step_fn(variables["params"], x)
  moved = jax.tree.map(lambda s: jnp.mean(s, axis=0), statistics)
  within = np.mean([INPUTS[i::3].var(axis=0) for i in range(3)], axis=0)
  np.testing.assert_allclose(moved["mean"], 0.1 * INPUTS.mean(axis=0), rtol=1e-4)
  np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * within, rtol=1e-4)


def test_dropout_keys_in_the_batch_are_those_of_both_passes():
  def loss_fn(w, batch):
    kept = jax.random.bernoulli(batch["key"][0], 0.5, w.shape)
    return jnp.sum(jnp.where(kept, w**2, 0)), kept

  w = jnp.ones(64)
  batch = {"key": jax.random.split(jax.random.key(0), 4)}
  (_, kept), grads, grad_fn = micro_value_and_grad(loss_fn, 4, has_aux=True)(w, batch)
  assert len(np.unique(kept, axis=0)) == 4  # every microbatch draws its own mask
  np.testing.assert_allclose(grads, 2 * np.mean(kept, axis=0))
  np.testing.assert_array_equal(grad_fn(3 * w), 3 * grads)


def test_averaged_over_devices_it_is_the_global_batch(x64):
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
  average = lambda grads: jax.lax.pmean(grads, "data")
  step_fn = micro_value_and_grad(loss_fn, 3, has_aux=True, transform=average)

  def gradients(w, elsewhere, batch):
    _, grads, grad_fn = step_fn(pcast(w, "data", to="varying"), batch)
    return grads, grad_fn(elsewhere)

  replicated = PartitionSpec()
  specs = (replicated, replicated, PartitionSpec("data"))
  found = jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=replicated)(
    jnp.asarray(W), jnp.asarray(ELSEWHERE), (jnp.asarray(INPUTS), TARGETS)
  )
  for grads, w in zip(found, (W, ELSEWHERE), strict=True):
    np.testing.assert_allclose(grads, gradient(w), rtol=1e-12)
