"""Value, gradients and closure of one call: the same arguments, the same transform."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import flatopt
from flatopt.closures import value_and_grad
from tests.versions import pcast

_rng = np.random.default_rng(0)
INPUTS, TARGETS = _rng.normal(size=(8, 3)), _rng.normal(size=8)
W, ELSEWHERE = np.array([0.3, -0.7, 1.1]), np.array([-0.2, 0.4, 0.9])


def loss_fn(w, x, *, y):
  residuals = x @ w - y
  return jnp.mean(residuals**2), residuals


def gradient(w):
  return 2 * np.mean((INPUTS @ w - TARGETS)[:, None] * INPUTS, axis=0)


def clipped(grads):
  return grads / max(1.0, 5 * np.linalg.norm(grads))


def clip(grads):
  return optax.clip_by_global_norm(0.2).update(grads, optax.EmptyState())[0]


@pytest.mark.parametrize("has_aux", [False, True])
def test_right_values(x64, has_aux):
  of_loss = loss_fn if has_aux else lambda *args, **kwargs: loss_fn(*args, **kwargs)[0]
  step_fn = value_and_grad(of_loss, has_aux=has_aux)
  value, grads, grad_fn = step_fn(W, jnp.asarray(INPUTS), y=TARGETS)
  residuals = INPUTS @ W - TARGETS
  loss = value[0] if has_aux else value
  np.testing.assert_allclose(loss, np.mean(residuals**2), rtol=1e-12)
  np.testing.assert_allclose(grads, gradient(W), rtol=1e-12)
  np.testing.assert_allclose(grad_fn(ELSEWHERE), gradient(ELSEWHERE), rtol=1e-12)
  if has_aux:
    np.testing.assert_allclose(value[1], residuals, rtol=1e-12)


def test_transform_is_applied_to_both_gradients(x64):
  step_fn = value_and_grad(loss_fn, has_aux=True, transform=clip)
  _, grads, grad_fn = step_fn(W, jnp.asarray(INPUTS), y=TARGETS)
  assert np.linalg.norm(gradient(W)) > 0.2
  assert np.linalg.norm(gradient(ELSEWHERE)) > 0.2
  np.testing.assert_allclose(grads, clipped(gradient(W)), rtol=1e-12)
  np.testing.assert_allclose(grad_fn(ELSEWHERE), clipped(gradient(ELSEWHERE)), rtol=1e-12)


def test_one_pass_each():
  seen = []

  def loss_fn(w):
    seen.append(w)
    return jnp.sum(w**2)

  _, _, grad_fn = value_and_grad(loss_fn)(jnp.ones(2))
  assert len(seen) == 1
  grad_fn(jnp.ones(2))
  assert len(seen) == 2


def test_dropout_draws_the_same_mask_in_both_passes():
  def loss_fn(w, key):
    return jnp.sum(jnp.where(jax.random.bernoulli(key, 0.5, w.shape), w**2, 0))

  w = jnp.arange(1.0, 33.0)
  _, grads, grad_fn = jax.jit(
    lambda w: (lambda value, grads, grad_fn: (value, grads, grad_fn(3 * w)))(
      *value_and_grad(loss_fn)(w, jax.random.key(0))
    )
  )(w)
  assert 0 < np.count_nonzero(grads) < 32
  np.testing.assert_array_equal(3 * grads, grad_fn)


def test_averaged_over_devices_it_is_the_global_batch(x64):
  """``transform=pmean`` under ``shard_map``, where the method gets params that do not vary."""
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  optimizer = flatopt.sam(0.5)
  average = lambda grads: jax.lax.pmean(grads, "data")

  def step(w, x, y):
    step_fn = value_and_grad(loss_fn, has_aux=True, transform=average)
    _, grads, grad_fn = step_fn(pcast(w, "data", to="varying"), x, y=y)
    sharp, _ = optimizer.update(grads, optimizer.init(w), w, grad_fn=grad_fn)
    return grads, sharp

  replicated, split = PartitionSpec(), PartitionSpec("data")
  grads, sharp = jax.shard_map(
    step, mesh=mesh, in_specs=(replicated, split, split), out_specs=replicated
  )(jnp.asarray(W), INPUTS, TARGETS)
  np.testing.assert_allclose(grads, gradient(W), rtol=1e-12)
  expected = gradient(W + 0.5 * gradient(W) / np.linalg.norm(gradient(W)))
  np.testing.assert_allclose(sharp, expected, rtol=1e-12)


def test_a_loss_that_draws_its_own_key_leaks_a_tracer():
  """Why docs/closures.md says to draw the key before the loss."""
  keys = [jax.random.key(0)]

  def draw():
    keys[0], drawn = jax.random.split(keys[0])
    return drawn

  @jax.jit
  def step(w):
    _, grads, grad_fn = value_and_grad(lambda w: jax.random.normal(draw(), w.shape) @ w)(w)
    updates, _ = rst.update(grads, rst.init(w), w, grad_fn=grad_fn)
    return updates, draw()

  rst = flatopt.rst(flatopt.sam(0.05))
  with pytest.raises(jax.errors.UnexpectedTracerError):
    step(jnp.ones(2))
