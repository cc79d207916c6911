"""Means over batches: their values, derivatives, memory and messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt import sharpness
from tests import problem


def cut(batch, num_batches):
  return jax.tree.map(lambda x: x.reshape(num_batches, -1, *x.shape[1:]), batch)


@pytest.fixture(scope="module")
def whole():
  return problem.make_batch(size=48, dtype=jnp.float32)


@pytest.fixture(scope="module")
def params():
  return problem.make_params(jnp.float32)


def test_value_gradient_and_product_are_the_full_batch_s(whole, params):
  direction = problem.make_params(jnp.float32, seed=1)

  def derivatives(loss_fn):
    grad_fn = jax.grad(loss_fn)
    product = sharpness.hessian_vector_product(grad_fn, params, direction)
    return loss_fn(params), grad_fn(params), product

  full = jax.jit(lambda: derivatives(lambda p: problem.loss_fn(p, whole)))()
  batched = jax.jit(lambda: derivatives(sharpness.over_batches(problem.loss_fn, cut(whole, 6))))()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), batched, full)


def test_host_mean_is_the_same(whole, params):
  stacked = cut(whole, 6)
  batches = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(6)]
  loss = sharpness.over_iterable(problem.loss_fn, batches)
  grads = sharpness.over_iterable(jax.grad(problem.loss_fn), batches)
  full = lambda p: problem.loss_fn(p, whole)
  check = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
  check(loss(params), full(params))
  jax.tree.map(check, grads(params), jax.grad(full)(params))
  traces = [
    sharpness.trace(fn, params, num_samples=2, key=0).mean for fn in (grads, jax.grad(full))
  ]
  check(*traces)


def temporary_bytes(num_batches, transform):
  stacked = jnp.ones((num_batches, 32, 64))
  loss_fn = lambda w, x: jnp.mean(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)

  def measured(w, stacked):
    return transform(sharpness.over_batches(loss_fn, stacked))(w)

  compiled = jax.jit(measured).lower(jnp.ones((64, 64)), stacked).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
  "transform",
  [
    lambda fn: fn,
    jax.grad,
    lambda fn: lambda w: sharpness.hessian_vector_product(jax.grad(fn), w, w),
  ],
  ids=["loss", "gradient", "product"],
)
def test_memory_is_constant_in_the_number_of_batches(transform):
  assert temporary_bytes(64, transform) == temporary_bytes(4, transform)


def test_host_mean_sums_in_float32():
  values = [jnp.asarray(v, jnp.bfloat16) for v in (256.0, 1.0, 1.0, 2.0)]
  mean = sharpness.over_iterable(lambda w, x: w * x, values)(jnp.ones((), jnp.bfloat16))
  assert (mean, mean.dtype) == (65.0, jnp.bfloat16)
  count = sharpness.over_iterable(lambda w, x: jnp.sum(x > w), [jnp.arange(3), jnp.arange(4)])
  assert (count(0), count(0).dtype) == (2.5, jnp.float32)


NUM_BATCHES = 1024  # ones of bfloat16 add up to 256, and then to no more


@pytest.mark.parametrize("mode", ["forward-reverse", "reverse-reverse"])
def test_over_batches_sums_in_float32(mode):
  """The mean over equal batches is that of one: values, gradients and products."""
  w = jnp.ones(1, jnp.bfloat16)
  loss_fn = lambda w, x: jnp.sum(w**2) * x
  batches = jnp.ones(NUM_BATCHES, jnp.bfloat16)
  loss = sharpness.over_batches(loss_fn, batches)
  value, grads = jax.jit(jax.value_and_grad(loss))(w)
  assert (value, value.dtype, grads[0], grads.dtype) == (1, jnp.bfloat16, 2, jnp.bfloat16)
  hessian = sharpness.hessian(jax.grad(loss), mode=mode)
  mean_hessian = sharpness.over_batches(sharpness.hessian(jax.grad(loss_fn), mode=mode), batches)
  assert [operator.product(w, w)[0] for operator in (hessian, mean_hessian)] == [2, 2]


def test_a_data_set_with_random_access_is_read_by_index():
  """As those of PyTorch and Grain, which need not end with an IndexError."""

  class Dataset:
    def __len__(self):
      return 3

    def __getitem__(self, i):
      assert i < len(self)
      return jnp.float32(i)

  assert sharpness.over_iterable(lambda w, x: w * x, Dataset())(jnp.ones(())) == 1


def test_progress_is_shown_on_a_terminal(monkeypatch, capsys):
  monkeypatch.setattr("sys.stderr.isatty", lambda: True)
  clock = iter(range(100))
  monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
  sharpness.over_iterable(lambda w, x: w * x, [1.0, 2.0])(jnp.ones(()))
  assert "1 batches of 2" in capsys.readouterr().err


def test_messages(params):
  batches = [1.0, 2.0]
  loss_fn = lambda w, x: jnp.sum(w) * x
  with pytest.raises(ValueError, match=r"over_batches.*leading axis.*\(0, 3\)"):
    sharpness.over_batches(loss_fn, jnp.ones((0, 3)))
  with pytest.raises(ValueError, match=r"over_batches.*leading axis"):
    sharpness.over_batches(loss_fn, (jnp.ones((2, 3)), jnp.ones(3)))
  with pytest.raises(TypeError, match=r"over_batches.*real floating scalar.*shape \(2,\)"):
    sharpness.over_batches(lambda w, x: w, jnp.ones((2, 3)))(jnp.ones(2))
  with pytest.raises(TypeError, match=r"over_batches.*real floating scalar; got a dict"):
    sharpness.over_batches(lambda w, x: {"w": w}, jnp.ones((2, 3)))(jnp.ones(2))
  with pytest.raises(ValueError, match=r"over_iterable: batches is empty"):
    sharpness.over_iterable(loss_fn, [])(jnp.ones(2))
  with pytest.raises(TypeError, match=r"over_iterable.*more than once.*generator"):
    sharpness.over_iterable(loss_fn, (b for b in batches))
  for transform in (jax.jit, jax.grad):
    with pytest.raises(TypeError, match=r"over_iterable.*cannot be traced.*over_batches"):
      transform(sharpness.over_iterable(loss_fn, batches))(jnp.ones(2))
