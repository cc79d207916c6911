"""``top_eigenvalues`` against dense Hessians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt import sharpness
from tests.sharpness import dense

REPEATED = np.array([7.0, 7.0, 7.0, 3.0, 3.0, 1.0, 0.5] + [0.0] * 13)
GEOMETRIC = np.geomspace(100, 0.01, 60)
PROBLEMS = {
  "repeated and zero": lambda: dense.quadratic(REPEATED),
  "geometric": lambda: dense.quadratic(GEOMETRIC),
  "negative": lambda: dense.quadratic(-GEOMETRIC[:20]),
  "mlp": dense.mlp,
  "logistic regression": dense.logistic_regression,
}


def top_five(loss_fn, params, num_matvecs, **options):
  measure = functools.partial(
    sharpness.top_eigenvalues, jax.grad(loss_fn), num=5, num_matvecs=num_matvecs, **options
  )
  return jax.jit(measure)(params, key=jax.random.key(0))


def check_vectors(vectors, values, hessian, atol):
  """Orthonormal, and H v = value v: right up to sign and, where values repeat, to a rotation."""
  v = dense.flatten(vectors).astype(np.float64)
  np.testing.assert_allclose(v @ v.T, np.eye(5), atol=atol)
  scale = np.abs(np.linalg.eigvalsh(hessian)).max()
  np.testing.assert_allclose(v @ hessian, np.asarray(values)[:, None] * v, atol=atol * scale)


@pytest.mark.parametrize("name", PROBLEMS)
def test_float64(x64, name):
  loss_fn, params, hessian = PROBLEMS[name]()
  size = len(hessian)
  values, vectors = top_five(loss_fn, params, min(size, 40))
  np.testing.assert_allclose(values, np.linalg.eigvalsh(hessian)[:-6:-1], rtol=1e-8)
  check_vectors(vectors, values, hessian, atol=1e-7)


@pytest.mark.parametrize("name", PROBLEMS)
def test_float32(name):
  loss_fn, params, hessian = PROBLEMS[name]()
  values, vectors = top_five(loss_fn, params, min(len(hessian), 40))
  assert values.dtype == jnp.float32
  np.testing.assert_allclose(values, np.linalg.eigvalsh(hessian)[:-6:-1], rtol=1e-4)
  check_vectors(vectors, values, hessian, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_low_memory(x64, dtype):
  loss_fn, params, hessian = dense.quadratic(GEOMETRIC)
  params = jax.tree.map(lambda x: x.astype(dtype), params)
  values, vectors = top_five(loss_fn, params, 58, basis_size=15)
  rtol = 1e-4 if dtype == jnp.float32 else 1e-8
  np.testing.assert_allclose(values, GEOMETRIC[:5], rtol=rtol)
  check_vectors(vectors, values, hessian, atol=1e-3 if dtype == jnp.float32 else 1e-5)


def test_low_memory_keeps_few_vectors():
  loss_fn, params = lambda w: jnp.sum(w**4), jnp.ones(100_000)

  def temporary_bytes(**options):
    measure = functools.partial(
      sharpness.top_eigenvalues, jax.grad(loss_fn), num_matvecs=32, **options
    )
    compiled = jax.jit(measure).lower(params, key=jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary_bytes(basis_size=6) < 0.6 * temporary_bytes()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_breakdown(rank):
  """The Krylov space is exhausted after ``rank + 1`` products."""
  eigenvalues = np.zeros(20)
  eigenvalues[:rank] = [4.0, 2.0][:rank]
  loss_fn, params, _ = dense.quadratic(eigenvalues)
  values, vectors = top_five(loss_fn, params, 10)
  np.testing.assert_allclose(values, eigenvalues[:5], atol=1e-5)
  v = dense.flatten(vectors)
  np.testing.assert_allclose(v @ v.T, np.eye(5), atol=1e-5)


def test_all_eigenvalues_equal():
  values, _ = top_five(lambda w: 1.5 * jnp.sum(w**2), jnp.ones(8), 8)
  np.testing.assert_allclose(values, 3.0, rtol=1e-6)


def test_host_loop_gives_the_same(x64):
  loss_fn, params, hessian = dense.mlp()
  grad_fn = sharpness.over_iterable(lambda p, scale: jax.grad(loss_fn)(p), [1, 2])
  values, _ = sharpness.top_eigenvalues(grad_fn, params, num=2, num_matvecs=25, key=0)
  np.testing.assert_allclose(values, np.linalg.eigvalsh(hessian)[:-3:-1], rtol=1e-6)


def test_sharded_params_are_not_gathered():
  mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
  params = jax.device_put(jnp.ones((64, 16)), sharding)
  scale = jax.device_put(jnp.linspace(1.0, 2.0, 1024).reshape(64, 16), sharding)
  grad_fn = lambda w: scale * w
  measure = functools.partial(sharpness.top_eigenvalues, grad_fn, num_matvecs=12)
  compiled = jax.jit(measure).lower(params, key=jax.random.key(0)).compile()
  assert "all-gather" not in compiled.as_text()
  values, _ = compiled(params, key=jax.random.key(0))
  np.testing.assert_allclose(values, 2.0, rtol=0.02)
