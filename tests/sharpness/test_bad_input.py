"""Bad input to the measures raises, and the message names measure, argument and limit."""

import functools

import jax
import jax.numpy as jnp
import pytest

from flatopt import sharpness

W = jnp.ones(4)
LOSS = lambda w: jnp.sum(w**4)
GRAD = jax.grad(LOSS)
GRADIENT_MEASURES = {
  "hessian_vector_product": lambda fn, w: sharpness.hessian_vector_product(fn, w, w),
  "top_eigenvalues": lambda fn, w: sharpness.top_eigenvalues(fn, w, num_matvecs=2, key=0),
  "smallest_eigenvalues": lambda fn, w: sharpness.smallest_eigenvalues(fn, w, num_matvecs=2, key=0),
  "trace": lambda fn, w: sharpness.trace(fn, w, key=0),
  "spectral_density": lambda fn, w: sharpness.spectral_density(fn, w, num_matvecs=2, key=0),
}
LOSS_MEASURES = {
  "ascent": lambda fn, w: sharpness.ascent(fn, w, rho=0.1),
  "average": lambda fn, w: sharpness.average(fn, w, sigma=0.1, key=0),
  "loss_landscape": lambda fn, w: sharpness.loss_landscape(fn, w, (w,)),
}
MEASURES = GRADIENT_MEASURES | LOSS_MEASURES


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
  ("params", "seen"),
  [
    (jnp.arange(3), "int32"),
    ({}, "empty pytree"),
    ({"mask": jnp.array([True])}, "bool"),
    (jnp.ones(2, jnp.complex64), "complex64"),
  ],
)
def test_params(name, params, seen):
  with pytest.raises((TypeError, ValueError), match=f"{name}: params.*{seen}"):
    MEASURES[name](lambda w: w, params)


@pytest.mark.parametrize("name", MEASURES)
def test_not_a_function(name):
  for fn in (3, None):
    with pytest.raises(TypeError, match=rf"{name}: (grad|loss)_fn must be a function; got {fn}"):
      MEASURES[name](fn, W)


@pytest.mark.parametrize("name", LOSS_MEASURES)
@pytest.mark.parametrize("fn", [lambda w: w**2, lambda w: jnp.int32(3)])
def test_loss_is_not_a_real_scalar(name, fn):
  with pytest.raises(TypeError, match=f"{name}: loss_fn must return a real floating scalar"):
    LOSS_MEASURES[name](fn, W)


@pytest.mark.parametrize("name", LOSS_MEASURES)
def test_a_gradient_where_a_loss_belongs(name):
  loss_fn = lambda params: LOSS(params["w"])
  message = f"{name}: loss_fn must return a real floating scalar; got a {{}}: pass the loss"
  for fn, seen in ((jax.grad(loss_fn), "dict"), (jax.value_and_grad(loss_fn), "tuple")):
    with pytest.raises(TypeError, match=message.format(seen)):
      LOSS_MEASURES[name](fn, {"w": W})


@pytest.mark.parametrize("name", GRADIENT_MEASURES)
def test_a_loss_where_a_gradient_belongs(name):
  for fn, params in ((LOSS, W), (lambda params: LOSS(params["w"]), {"w": W})):
    message = rf"{name}: the result of grad_fn has shape \(\), as a loss.*jax\.grad\(grad_fn\)"
    with pytest.raises(ValueError, match=message):
      GRADIENT_MEASURES[name](fn, params)


@pytest.mark.parametrize(
  "name", ["top_eigenvalues", "smallest_eigenvalues", "trace", "spectral_density"]
)
def test_hessian_is_not_finite(name):
  with pytest.raises(ValueError, match=f"{name}: the Hessian is not finite"):
    GRADIENT_MEASURES[name](jax.grad(lambda w: jnp.sum(jnp.sqrt(w - 1))), W)


@pytest.mark.parametrize("name", ["ascent", "average"])
def test_loss_is_not_finite(name):
  with pytest.raises(ValueError, match=f"{name}: the loss is not finite"):
    LOSS_MEASURES[name](lambda w: jnp.sum(jnp.log(w - 1)), W)


@pytest.mark.parametrize(
  ("measure", "error", "message"),
  [
    (
      functools.partial(sharpness.top_eigenvalues, GRAD, W, num_matvecs=5),
      ValueError,
      "top_eigenvalues: num_matvecs must be at most 4, the number of params; got 5",
    ),
    (
      functools.partial(sharpness.spectral_density, GRAD, W),
      ValueError,
      "spectral_density: num_matvecs must be at most 4, the number of params; got 64",
    ),
    (
      functools.partial(sharpness.top_eigenvalues, GRAD, W, num=3, num_matvecs=2),
      ValueError,
      "top_eigenvalues: num_matvecs must be >= 3; got 2",
    ),
    (
      functools.partial(sharpness.top_eigenvalues, GRAD, W, num_matvecs=4, basis_size=2),
      ValueError,
      "top_eigenvalues: basis_size must be >= 3; got 2",
    ),
    (
      functools.partial(sharpness.trace, GRAD, W, num_samples=0),
      ValueError,
      "trace: num_samples must be >= 1; got 0",
    ),
    (
      functools.partial(sharpness.average, LOSS, W, sigma=-1.0),
      ValueError,
      "average: sigma must be >= 0; got -1.0",
    ),
    (
      functools.partial(sharpness.filter_normalized_directions, W, num=0),
      ValueError,
      "filter_normalized_directions: num must be >= 1; got 0",
    ),
  ],
)
def test_arguments(measure, error, message):
  with pytest.raises(error, match=message):
    measure(key=0)


@pytest.mark.parametrize(
  ("options", "error", "message"),
  [
    ({"rho": -1.0}, ValueError, "ascent: rho must be >= 0; got -1.0"),
    ({"rho": "big"}, TypeError, "ascent: rho must be a number"),
    ({"rho": 0.1, "num_steps": 0}, ValueError, "ascent: num_steps must be >= 1; got 0"),
    ({"rho": 0.1, "eta": -0.5}, ValueError, "ascent: eta must be >= 0; got -0.5"),
  ],
)
def test_ascent(options, error, message):
  with pytest.raises(error, match=message):
    sharpness.ascent(LOSS, W, **options)


@pytest.mark.parametrize(
  ("directions", "message"),
  [
    (W, "directions must be a tuple of pytrees"),
    ((), "directions must be a tuple of pytrees"),
    (jnp.ones((0, 4)), r"directions must be a tuple of pytrees.*shapes \[\(0, 4\)\]"),
    (jnp.ones((2, 3)), r"directions must be a tuple of pytrees.*shapes \[\(2, 3\)\]"),
    ((jnp.ones(3),), r"directions\[0\] has shape \(3,\); params have \(4,\)"),
  ],
)
def test_directions(directions, message):
  with pytest.raises((TypeError, ValueError), match=f"loss_landscape: {message}"):
    sharpness.loss_landscape(LOSS, W, directions)


@pytest.mark.parametrize("key", [None, 1.5, True, jnp.ones(2)])
def test_key(key):
  with pytest.raises(TypeError, match="trace: key must be a Python int or a JAX key"):
    sharpness.trace(GRAD, W, key=key)


def test_vector():
  with pytest.raises(ValueError, match=r"hessian_vector_product: vector has shape \(3,\)"):
    sharpness.hessian_vector_product(GRAD, W, jnp.ones(3))
