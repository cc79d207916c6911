"""ASAM's neighbourhood follows a change of scale that leaves the function as it is; SAM's does not."""

import jax
import jax.numpy as jnp
import pytest

import flatopt


def loss_fn(params):
  return jnp.square(jax.nn.relu(X @ params["kernel"]) @ params["out"] - 1).mean()


X = jax.random.normal(jax.random.key(0), (16, 3))
PARAMS = {
  "kernel": jax.random.normal(jax.random.key(1), (3, 4)),
  "out": jax.random.normal(jax.random.key(2), (4,)),
}
SAME_FUNCTION = {"kernel": 5 * PARAMS["kernel"], "out": PARAMS["out"] / 5}


def perturbed_loss(method, params):
  """The loss where ``method`` takes its gradient."""
  seen = []

  def grad_fn(p):
    seen.append(p)
    return jax.grad(loss_fn)(p)

  method.update(grad_fn(params), method.init(params), params, grad_fn=grad_fn)
  return float(loss_fn(seen[-1]))


def test_asam_looks_at_the_same_loss():
  method = flatopt.asam(0.5, eta=0.0)
  before = perturbed_loss(method, PARAMS)
  assert before > 1.05 * float(loss_fn(PARAMS))
  assert perturbed_loss(method, SAME_FUNCTION) == pytest.approx(before, rel=1e-4)


def test_sam_looks_at_another():
  before, after = (perturbed_loss(flatopt.sam(0.1), p) for p in (PARAMS, SAME_FUNCTION))
  assert after > 1.05 * before
