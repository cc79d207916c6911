"""Incoming gradients of a part of the batch, closures of all of it: who may, and what comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flatopt
from tests.methods import OPTIMIZERS, with_argument

_rng = np.random.default_rng(0)
INPUTS, TARGETS = _rng.normal(size=(16, 3)), _rng.normal(size=16)
W = np.array([0.3, -0.7, 1.1])
ALLOWED = ("sam", "asam", "friendly_sam", "lookbehind")  # the table of docs/advanced.md


def loss_fn(w, batch):
  x, y = batch
  return jnp.mean((x @ w - y) ** 4)


def gradient(w, size=16):
  residuals = INPUTS[:size] @ w - TARGETS[:size]
  return np.mean(4 * residuals[:, None] ** 3 * INPUTS[:size], axis=0)


# ae_sam may find all five steps sharp.
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "ae_sam"])
def test_methods_that_use_the_direction_only(name):
  """Those allow it; in the others the length of the incoming gradient gets into the output."""
  optimizer = OPTIMIZERS[name](**({"rho": 0.2} if name in with_argument("rho") else {}))
  batch = jnp.asarray(INPUTS, jnp.float32), jnp.asarray(TARGETS, jnp.float32)
  grad_fn = lambda w: jax.grad(loss_fn)(w, batch)

  @jax.jit
  def ends(scale):
    w = jnp.asarray(W, jnp.float32)
    state = optimizer.init(w)
    outputs = []
    for _ in range(5):
      updates, state = optimizer.update(
        scale * grad_fn(w), state, w, grad_fn=grad_fn, sampled_grad_fn=lambda w, key: grad_fn(w)
      )
      outputs.append(updates)
      w = w - 0.01 * updates / jnp.linalg.norm(updates)
    return jnp.stack(outputs)

  once, thrice = ends(jnp.ones(())), ends(jnp.full((), 3.0))
  assert np.allclose(once, thrice, rtol=1e-4) == (name in ALLOWED)


def test_right_values(x64):
  """SAM perturbed by the first four of sixteen examples."""
  batch, sam = (jnp.asarray(INPUTS), jnp.asarray(TARGETS)), flatopt.sam(0.2)
  part = jax.tree.map(lambda x: x[:4], batch)
  step_fn = flatopt.closures.value_and_grad(loss_fn)
  _, grads, _ = step_fn(W, part)
  grad_fn = lambda w: jax.grad(loss_fn)(w, batch)
  sharp, _ = sam.update(grads, sam.init(W), W, grad_fn=grad_fn)
  ascent = gradient(W, size=4)
  np.testing.assert_allclose(sharp, gradient(W + 0.2 * ascent / np.linalg.norm(ascent)), rtol=1e-9)
  assert not np.allclose(sharp, gradient(W + 0.2 * gradient(W) / np.linalg.norm(gradient(W))))
