"""Accumulated gradients are those of the whole batch, one microbatch in memory at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from flatopt.closures import micro_grad_fn

_rng = np.random.default_rng(0)
INPUTS, TARGETS = _rng.normal(size=(12, 3)), _rng.normal(size=12)
W = {"w": np.array([0.3, -0.7, 1.1])}


def loss_fn(params, batch):
  return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 4)


@pytest.mark.parametrize(("num_microbatches", "unroll"), [(1, 1), (3, 1), (12, 4), (4, True)])
def test_right_values(x64, num_microbatches, unroll):
  batch = {"x": jnp.asarray(INPUTS), "y": TARGETS}
  grads = micro_grad_fn(loss_fn, batch, num_microbatches, unroll=unroll)(W)
  residuals = INPUTS @ W["w"] - TARGETS
  expected = np.mean(4 * residuals[:, None] ** 3 * INPUTS, axis=0)
  np.testing.assert_allclose(grads["w"], expected, rtol=1e-12)


def test_one_microbatch_at_a_time():
  seen = []

  def loss_fn(w, x):
    seen.append(x.shape)
    return jnp.mean(x @ w)

  micro_grad_fn(loss_fn, jnp.zeros((12, 3)), 4)(jnp.zeros(3))
  assert set(seen) == {(3, 3)}


def test_sums_bfloat16_in_float32():
  """512 gradients of 1: a bfloat16 sum would stop at 256."""
  w = jnp.zeros(2, jnp.bfloat16)
  batch = jnp.ones((512, 2), jnp.bfloat16)
  grads = micro_grad_fn(lambda w, x: jnp.mean(x @ w), batch, 512)(w)
  assert grads.dtype == jnp.bfloat16
  assert grads.astype(float).tolist() == [1, 1]
