"""Closures: accumulated gradients, and gradients of labels that the model draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt.closures import micro_grad_fn, sampled_label_grad_fn

_rng = np.random.default_rng(0)
INPUTS, TARGETS = _rng.normal(size=(12, 3)), _rng.normal(size=12)
W = {"w": np.array([0.3, -0.7, 1.1])}


def loss_fn(params, batch):
  return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 4)


@pytest.mark.parametrize(("num_microbatches", "unroll"), [(1, 1), (3, 1), (12, 4), (4, True)])
def test_micro_grad_fn(x64, num_microbatches, unroll):
  batch = {"x": jnp.asarray(INPUTS), "y": TARGETS}
  grads = micro_grad_fn(loss_fn, batch, num_microbatches, unroll=unroll)(W)
  residuals = INPUTS @ W["w"] - TARGETS
  expected = np.mean(4 * residuals[:, None] ** 3 * INPUTS, axis=0)
  np.testing.assert_allclose(grads["w"], expected, rtol=1e-12)


def test_micro_grad_fn_holds_one_microbatch_at_a_time():
  seen = []

  def loss_fn(w, x):
    seen.append(x.shape)
    return jnp.mean(x @ w)

  micro_grad_fn(loss_fn, jnp.zeros((12, 3)), 4)(jnp.zeros(3))
  assert set(seen) == {(3, 3)}


def test_micro_grad_fn_sums_bfloat16_in_float32():
  """512 gradients of 1: a bfloat16 sum would stop at 256."""
  w = jnp.zeros(2, jnp.bfloat16)
  batch = jnp.ones((512, 2), jnp.bfloat16)
  grads = micro_grad_fn(lambda w, x: jnp.mean(x @ w), batch, 512)(w)
  assert grads.dtype == jnp.bfloat16
  assert grads.astype(float).tolist() == [1, 1]


def test_sampled_label_grad_fn():
  """A 2 x 2 batch: every labelling gives its mean gradient as often as the model says."""
  inputs, w = _rng.normal(size=(2, 2, 3)), _rng.normal(size=(3, 2)) / 2
  grad_fn = sampled_label_grad_fn(lambda w, x: x @ w, jnp.asarray(inputs, jnp.float32))
  keys = jax.random.split(jax.random.key(1), 2048)
  grads = jax.jit(jax.vmap(grad_fn, (None, 0)))(jnp.asarray(w, jnp.float32), keys)

  logits = inputs @ w
  probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  labellings = np.array(list(itertools.product([0, 1], repeat=4))).reshape(16, 2, 2)
  chosen = np.eye(2)[labellings]
  possible = np.einsum("abi,nabj->nij", inputs, probs - chosen) / 4
  distances = np.abs(np.asarray(grads)[:, None] - possible).max(axis=(2, 3))
  assert distances.min(axis=1).max() < 1e-5

  expected = np.prod(np.sum(probs * chosen, axis=-1), axis=(1, 2))
  shares = np.bincount(distances.argmin(axis=1), minlength=16) / 2048
  assert np.all(np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / 2048))
