"""Hessian and Gauss-Newton operators against dense matrices, alone and averaged over batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import trapezoid

from flatopt import sharpness
from flatopt.sharpness.vectors import signs
from tests import problem
from tests.sharpness import dense
from tests.versions import enable_x64

MODES = ("forward-reverse", "reverse-reverse")
PRECISIONS = pytest.mark.parametrize(("bits", "tolerance"), [(32, 1e-5), (64, 1e-10)])


def batch_logits_fn(params, batch):
  return problem.logits_fn(params, batch.inputs)


def batch_loss_fn(logits, batch):
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels))


def close_over(batch):
  """The two functions as ``gauss_newton`` wants them for one batch."""
  logits_fn = lambda params: batch_logits_fn(params, batch)
  return logits_fn, lambda logits: batch_loss_fn(logits, batch)


def dense_gauss_newton(params, batch):
  """mean over examples of J' (diag(p) - p p') J, in NumPy but for the Jacobian."""
  flat, unravel = ravel_pytree(params)
  logits_fn = lambda w: batch_logits_fn(unravel(w), batch)
  jacobian = np.asarray(jax.jacrev(logits_fn)(flat), np.float64)  # (examples, classes, N)
  logits = np.asarray(logits_fn(flat), np.float64)
  p = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
  curvature = np.eye(p.shape[1]) * p[:, :, None] - p[:, :, None] * p[:, None, :]
  return np.einsum("bcn,bcd,bdm->nm", jacobian, curvature, jacobian) / len(p)


def columns(operator, params):
  """The matrix, one product a column."""
  flat, unravel = ravel_pytree(params)
  product = lambda v: ravel_pytree(sharpness.hessian_vector_product(operator, params, unravel(v)))[
    0
  ]
  return jax.jit(jax.vmap(product))(jnp.eye(flat.size, dtype=flat.dtype))


@PRECISIONS
@pytest.mark.parametrize("mode", MODES)
def test_gauss_newton(bits, tolerance, mode):
  with enable_x64(bits == 64):
    params, batch = problem.make_params(), problem.make_batch()
    operator = sharpness.gauss_newton(*close_over(batch), mode=mode)
    np.testing.assert_allclose(
      columns(operator, params), dense_gauss_newton(params, batch), atol=tolerance
    )


@PRECISIONS
@pytest.mark.parametrize("mode", MODES)
def test_hessian(bits, tolerance, mode):
  with enable_x64(bits == 64):
    loss_fn, params, matrix = dense.mlp()
    operator = sharpness.hessian(jax.grad(loss_fn), mode=mode)
    np.testing.assert_allclose(columns(operator, params), matrix, atol=tolerance)


@pytest.fixture(scope="module")
def fitted():
  """``(operator, params, matrix)`` of a Gauss-Newton matrix, in float64."""
  with enable_x64(True):
    params, batch = problem.make_params(), problem.make_batch(size=64)
    operator = sharpness.gauss_newton(*close_over(batch))
    return operator, params, dense_gauss_newton(params, batch)


def test_eigenvalues(x64, fitted):
  operator, params, matrix = fitted
  exact = np.linalg.eigvalsh(matrix)
  options = {"num": 3, "num_matvecs": 43, "key": 0}
  values, vectors = sharpness.top_eigenvalues(operator, params, **options)
  np.testing.assert_allclose(values, exact[:-4:-1], rtol=1e-10)
  v = dense.flatten(vectors)
  np.testing.assert_allclose(v @ matrix, values[:, None] * v, atol=1e-10)
  smallest, _ = sharpness.smallest_eigenvalues(operator, params, **options)
  np.testing.assert_allclose(smallest, exact[:3], atol=1e-10)
  assert np.min(smallest) > -1e-10  # The Hessian of this problem has negative ones.


def test_trace_and_density(x64, fitted):
  operator, params, matrix = fitted
  key, num = jax.random.key(3), 16
  probes = [ravel_pytree(signs(k, params))[0] for k in jax.random.split(key, num)]
  forms = [v @ matrix @ v for v in np.asarray(probes)]
  mean, error = sharpness.trace(operator, params, num_samples=num, key=key)
  assert float(mean) == pytest.approx(np.mean(forms), rel=1e-10)
  assert float(error) == pytest.approx(np.std(forms, ddof=1) / np.sqrt(num), rel=1e-10)
  grid, density = sharpness.spectral_density(
    operator, params, num_matvecs=20, num_samples=num, key=key
  )
  assert trapezoid(density * grid, grid) == pytest.approx(np.mean(forms) / 43, rel=1e-5)


@pytest.mark.parametrize("kind", ["gauss_newton", "hessian", "reverse-reverse"])
def test_means_over_batches(x64, kind):
  """Over two batches, in a scan and on the host: the mean of the two matrices."""
  params = problem.make_params()
  batches = [problem.make_batch(seed=seed) for seed in (0, 1)]
  if kind == "gauss_newton":
    operator = sharpness.gauss_newton(batch_logits_fn, batch_loss_fn)
    matrices = [dense_gauss_newton(params, batch) for batch in batches]
  else:
    mode = kind if kind in MODES else MODES[0]
    operator = sharpness.hessian(jax.grad(problem.loss_fn), mode=mode)
    matrices = [
      dense.with_hessian(functools.partial(problem.loss_fn, batch=batch), params)[2]
      for batch in batches
    ]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
  np.testing.assert_allclose(
    columns(sharpness.over_batches(operator, stacked), params), np.mean(matrices, 0), atol=1e-10
  )
  on_host = sharpness.over_iterable(operator, batches)
  values, _ = sharpness.top_eigenvalues(on_host, params, num=2, num_matvecs=43, key=0)
  np.testing.assert_allclose(values, np.linalg.eigvalsh(np.mean(matrices, 0))[:-3:-1], rtol=1e-8)


def test_hessian_of_a_mean_on_the_host(x64):
  loss_fn, params, _ = dense.mlp()
  grad_fn = sharpness.over_iterable(lambda p, scale: jax.grad(loss_fn)(p), [1, 2])
  operator = sharpness.hessian(grad_fn, mode="reverse-reverse")
  mean, _ = sharpness.trace(operator, params, num_samples=2, key=0)
  expected, _ = sharpness.trace(jax.grad(loss_fn), params, num_samples=2, key=0)
  assert float(mean) == pytest.approx(float(expected), rel=1e-10)


def test_logits_may_be_a_pytree(x64):
  a, b = jnp.arange(6.0).reshape(2, 3), jnp.ones((1, 3))
  logits_fn = lambda w: {"a": a @ w, "b": b @ w}
  loss_fn = lambda z: jnp.sum(z["a"] ** 2) + jnp.sum(z["b"] ** 4)
  operator = sharpness.gauss_newton(logits_fn, loss_fn)
  w = jnp.array([0.5, 1.0, -1.0])
  expected = 2 * a.T @ a + 12 * (b @ w) ** 2 * b.T @ b
  np.testing.assert_allclose(columns(operator, w), expected, rtol=1e-12)


@jax.custom_vjp
def without_forward_mode(x):
  return jnp.tanh(x)


# The forward rule calls the function itself, as JAX's own examples do: forward mode ends there.
without_forward_mode.defvjp(
  lambda x: (without_forward_mode(x), x),
  lambda x, cotangent: (cotangent * (1 - jnp.tanh(x) ** 2),),
)


def custom_logits_fn(kernel):
  return jax.jit(without_forward_mode)(jnp.arange(6.0).reshape(2, 3) / 5 @ kernel)


CUSTOM_GRAD = jax.grad(lambda kernel: jnp.sum(custom_logits_fn(kernel) ** 4))


WITHOUT_FORWARD_MODE = {
  "hessian_vector_product": lambda fn, w: sharpness.hessian_vector_product(fn, w, w),
  "top_eigenvalues": lambda fn, w: sharpness.top_eigenvalues(fn, w, num_matvecs=2, key=0),
  "trace": lambda fn, w: sharpness.trace(fn, w, num_samples=2, key=0),
  "spectral_density": lambda fn, w: sharpness.spectral_density(fn, w, num_matvecs=2, key=0),
}


@pytest.mark.parametrize("name", WITHOUT_FORWARD_MODE)
def test_a_model_without_forward_mode_names_the_mode(name):
  """Also where JAX finds out only when it compiles the loop."""
  operator = sharpness.gauss_newton(custom_logits_fn, lambda z: jnp.sum(z**2))
  for fn in (CUSTOM_GRAD, operator):
    remedy = r'custom_vjp.*sharpness.hessian\(grad_fn, mode="reverse-reverse"\).*gauss_newton\('
    with pytest.raises(TypeError, match=f"{name}: .*{remedy}.*DirectAdjoint"):
      WITHOUT_FORWARD_MODE[name](fn, jnp.ones(3))


@jax.custom_vjp
def with_a_loop_in_its_derivative(x):
  return x**2


def _derivative_by_a_loop(x, cotangent):
  add = lambda state: (state[0] + 1, state[1] + x * cotangent)
  return (jax.lax.while_loop(lambda state: state[0] < 2, add, (0, 0 * x))[1],)


with_a_loop_in_its_derivative.defvjp(lambda x: (x**2, x), _derivative_by_a_loop)


def test_a_derivative_without_reverse_mode_names_the_remedies():
  """As those of Diffrax' RecursiveCheckpointAdjoint."""
  grad_fn = jax.grad(lambda w: jnp.sum(with_a_loop_in_its_derivative(w)))
  reverse = {"mode": "reverse-reverse"}
  for operator in (
    sharpness.hessian(grad_fn, **reverse),
    sharpness.gauss_newton(with_a_loop_in_its_derivative, lambda z: jnp.sum(z**2), **reverse),
  ):
    with pytest.raises(ValueError, match=r": .*forward-reverse.*DirectAdjoint.*jacfwd"):
      sharpness.trace(operator, jnp.ones(3), num_samples=2, key=0)


def test_a_custom_gradient_that_is_not_differentiated_again_is_no_obstacle():
  """As under plain jit: only the loss's own derivative wants forward mode, and no one wants it."""
  grad_fn = jax.grad(lambda w: jnp.sum(without_forward_mode(w)))
  product = jax.jit(lambda w: sharpness.hessian_vector_product(grad_fn, w, w))
  w = jnp.array([0.1, -0.4, 1.0])
  expected = -2 * np.tanh(w) * (1 - np.tanh(w) ** 2) * w
  np.testing.assert_allclose(product(w), expected, rtol=1e-5)


def test_reverse_reverse_measures_it(x64):
  plain = lambda kernel: jnp.tanh(jnp.arange(6.0).reshape(2, 3) / 5 @ kernel)
  loss_fn = lambda z: jnp.sum(z**4)
  kernel = jnp.array([0.3, -0.2, 0.5])
  operator = sharpness.hessian(CUSTOM_GRAD, mode="reverse-reverse")
  expected = jax.hessian(lambda w: loss_fn(plain(w)))(kernel)
  np.testing.assert_allclose(columns(operator, kernel), expected, rtol=1e-10)
  values, _ = sharpness.top_eigenvalues(operator, kernel, num=3, num_matvecs=3, key=0)
  np.testing.assert_allclose(values, np.linalg.eigvalsh(expected)[::-1], atol=1e-10)
  operator = sharpness.gauss_newton(custom_logits_fn, loss_fn, mode="reverse-reverse")
  jacobian = jax.jacrev(plain)(kernel)
  expected = jacobian.T @ jnp.diag(12 * plain(kernel) ** 2) @ jacobian
  np.testing.assert_allclose(columns(operator, kernel), expected, rtol=1e-10)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: sharpness.hessian(3), "hessian: grad_fn must be a function; got 3"),
    (lambda: sharpness.hessian(jnp.sum, mode="forward"), "hessian: mode must be one of"),
    (lambda: sharpness.gauss_newton(3, jnp.sum), "gauss_newton: logits_fn must be a function"),
    (lambda: sharpness.gauss_newton(jnp.sum, None), "gauss_newton: loss_fn must be a function"),
    (lambda: sharpness.gauss_newton(jnp.sum, jnp.sum, mode=1), "gauss_newton: mode must be one"),
  ],
)
def test_arguments(make, message):
  with pytest.raises((TypeError, ValueError), match=message):
    make()


def test_a_loss_of_logits_that_is_no_scalar():
  operator = sharpness.gauss_newton(lambda w: w, lambda z: z)
  with pytest.raises(TypeError, match="gauss_newton: loss_fn must return a real floating scalar"):
    sharpness.trace(operator, jnp.ones(3), key=0)


@pytest.mark.parametrize("mode", MODES)
def test_logits_that_are_integers(mode):
  logits_fn = lambda w: {"logits": w, "label": jnp.argmax(w)}
  operator = sharpness.gauss_newton(logits_fn, lambda z: jnp.sum(z["logits"] ** 2), mode=mode)
  message = r"gauss_newton: the result of logits_fn\['label'\] is int32"
  with pytest.raises(TypeError, match=message):
    sharpness.trace(operator, jnp.ones(3), key=0)


def test_an_operator_has_a_product(x64):
  params, batch = problem.make_params(), problem.make_batch()
  operator = sharpness.hessian(jax.grad(problem.loss_fn))
  on_batch = functools.partial(problem.loss_fn, batch=batch)
  expected = sharpness.hessian_vector_product(jax.grad(on_batch), params, params)
  product = operator.product(params, params, batch)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), product, expected)
