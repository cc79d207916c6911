"""Functional SAM's closure: the Jacobian moves, the derivative by the logits does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import flatopt
from flatopt.closures import functional_value_and_grad
from tests.versions import pcast

_rng = np.random.default_rng(0)
INPUTS, LABELS = _rng.normal(size=(8, 3)), _rng.integers(0, 4, size=8)
W = _rng.normal(size=(3, 4))
ELSEWHERE = W + 0.5 * _rng.normal(size=(3, 4))


def logits_fn(w, x):
  return jnp.tanh(x @ w)


def loss_fn(logits, labels):
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def cotangent(w):
  """The derivative of the mean cross entropy by the logits at w."""
  exponentials = np.exp(np.tanh(INPUTS @ w))
  return (exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(4)[LABELS]) / 8


def pulled_back(w, cotangent):
  return INPUTS.T @ ((1 - np.tanh(INPUTS @ w) ** 2) * cotangent)


def test_right_values(x64):
  step_fn = functional_value_and_grad(logits_fn, loss_fn)
  loss, grads, grad_fn = step_fn(W, jnp.asarray(INPUTS), LABELS)
  exponentials = np.exp(np.tanh(INPUTS @ W))
  chosen = exponentials[np.arange(8), LABELS] / exponentials.sum(axis=1)
  np.testing.assert_allclose(loss, -np.mean(np.log(chosen)), rtol=1e-12)
  np.testing.assert_allclose(grads, pulled_back(W, cotangent(W)), rtol=1e-10)
  expected = pulled_back(ELSEWHERE, cotangent(W))
  np.testing.assert_allclose(grad_fn(ELSEWHERE), expected, rtol=1e-10)
  plain = pulled_back(ELSEWHERE, cotangent(ELSEWHERE))
  assert np.linalg.norm(expected - plain) > 0.1 * np.linalg.norm(plain)


def test_a_step_of_sam(x64):
  """In ``jit``, and through ``cond``; transform scales both gradients."""
  optimizer = flatopt.rst(flatopt.sam(0.3), 1.0)

  @jax.jit
  def step(w, inputs):
    step_fn = functional_value_and_grad(logits_fn, loss_fn, transform=lambda g: 2 * g)
    _, grads, grad_fn = step_fn(w, inputs, LABELS)
    return grads, optimizer.update(grads, optimizer.init(w), w, grad_fn=grad_fn)[0]

  grads, sharp = step(jnp.asarray(W), jnp.asarray(INPUTS))
  clean = pulled_back(W, cotangent(W))
  perturbed = W + 0.3 * clean / np.linalg.norm(clean)
  np.testing.assert_allclose(grads, 2 * clean, rtol=1e-10)
  np.testing.assert_allclose(sharp, 2 * pulled_back(perturbed, cotangent(W)), rtol=1e-10)


def test_averaged_over_devices_it_is_the_global_batch(x64):
  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  average = lambda grads: jax.lax.pmean(grads, "data")

  def gradients(w, elsewhere, x, y):
    step_fn = functional_value_and_grad(logits_fn, loss_fn, transform=average)
    _, grads, grad_fn = step_fn(pcast(w, "data", to="varying"), x, y)
    return grads, grad_fn(elsewhere)

  replicated, split = PartitionSpec(), PartitionSpec("data")
  specs = (replicated, replicated, split, split)
  grads, perturbed = jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=replicated)(
    jnp.asarray(W), jnp.asarray(ELSEWHERE), INPUTS, LABELS
  )
  np.testing.assert_allclose(grads, pulled_back(W, cotangent(W)), rtol=1e-10)
  np.testing.assert_allclose(perturbed, pulled_back(ELSEWHERE, cotangent(W)), rtol=1e-10)


def test_logits_may_be_a_pytree_and_labels_too(x64):
  logits_fn = lambda w, x: {"a": x @ w, "b": x @ w**2}
  loss_fn = lambda z, labels: jnp.sum(labels[0] * z["a"] ** 2) + jnp.sum(labels[1] * z["b"])
  x, w = jnp.array([[2.0]]), jnp.array([[3.0]])
  step_fn = functional_value_and_grad(logits_fn, loss_fn)
  loss, grads, grad_fn = step_fn(w, x, (jnp.array(5.0), jnp.array(7.0)))
  assert float(loss) == pytest.approx(5 * 36 + 7 * 18)
  # dL/da = 10 a = 60 and dL/db = 7; da/dw = x = 2 and db/dw = 2 x w.
  assert float(grads[0, 0]) == pytest.approx(60 * 2 + 7 * 12)
  assert float(grad_fn(2 * w)[0, 0]) == pytest.approx(60 * 2 + 7 * 24)
