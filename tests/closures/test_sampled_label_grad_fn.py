"""Gradients of labels that the model draws, of a whole batch and of microbatches."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from flatopt.closures import sampled_label_grad_fn

_rng = np.random.default_rng(0)


def softmax(logits):
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_labellings_have_the_model_s_probabilities():
  """A 2 x 2 batch: every labelling gives its mean gradient as often as the model says."""
  inputs, w = _rng.normal(size=(2, 2, 3)), _rng.normal(size=(3, 2)) / 2
  grad_fn = sampled_label_grad_fn(lambda w, x: x @ w, jnp.asarray(inputs, jnp.float32))
  keys = jax.random.split(jax.random.key(1), 2048)
  grads = jax.jit(jax.vmap(grad_fn, (None, 0)))(jnp.asarray(w, jnp.float32), keys)

  probs = softmax(inputs @ w)
  labellings = np.array(list(itertools.product([0, 1], repeat=4))).reshape(16, 2, 2)
  chosen = np.eye(2)[labellings]
  possible = np.einsum("abi,nabj->nij", inputs, probs - chosen) / 4
  distances = np.abs(np.asarray(grads)[:, None] - possible).max(axis=(2, 3))
  assert distances.min(axis=1).max() < 1e-5

  expected = np.prod(np.sum(probs * chosen, axis=-1), axis=(1, 2))
  shares = np.bincount(distances.argmin(axis=1), minlength=16) / 2048
  assert np.all(np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / 2048))


def test_labels_of_bfloat16_logits_are_not_the_first_classes():
  """Noise in bfloat16 ties most of many classes, and the first of them would be drawn."""
  num_classes = 1024
  logits_fn = lambda w, n: jnp.broadcast_to(w, (n, num_classes)).astype(jnp.bfloat16)
  grads = sampled_label_grad_fn(logits_fn, 512)(jnp.zeros(num_classes), jax.random.key(0))
  drawn = 1 / num_classes - np.asarray(grads)  # the share of each label
  assert 0.4 < np.sum(drawn[: num_classes // 2]) < 0.6


def expected_gradient(inputs, w, key):
  labels = jax.random.categorical(key, jnp.asarray(inputs @ w))
  return inputs.T @ (softmax(inputs @ w) - np.eye(4)[labels]) / len(inputs)


def test_microbatches_draw_with_keys_of_their_own(x64):
  inputs, w, key = _rng.normal(size=(12, 3)), _rng.normal(size=(3, 4)), jax.random.key(2)
  seen = []

  def logits_fn(w, x):
    seen.append(x.shape)
    return x @ w

  grads = sampled_label_grad_fn(logits_fn, jnp.asarray(inputs), num_microbatches=3)(w, key)
  parts = [expected_gradient(inputs[i::3], w, jax.random.fold_in(key, i)) for i in range(3)]
  np.testing.assert_allclose(grads, np.mean(parts, axis=0), rtol=1e-12)
  assert set(seen) == {(4, 3)}


def test_one_part_is_drawn_with_the_key_itself(x64):
  inputs, w, key = _rng.normal(size=(12, 3)), _rng.normal(size=(3, 4)), jax.random.key(2)
  grads = sampled_label_grad_fn(lambda w, x: x @ w, jnp.asarray(inputs))(w, key)
  np.testing.assert_allclose(grads, expected_gradient(inputs, w, key), rtol=1e-12)
