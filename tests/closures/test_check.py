"""``check`` passes the right closure, and says of a wrong one what is wrong with it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt.closures import check

PARAMS = {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.array([1.0, 2.0])}
SCALE = jnp.array([1.0, 2.0])


def loss_fn(params, scale=SCALE):
  return jnp.sum(params["kernel"] ** 2) / 2 + jnp.sum(scale * params["bias"] ** 3)


grad_fn = jax.grad(loss_fn)
GRADS = grad_fn(PARAMS)


def message(grads, closure, params=PARAMS, error=ValueError, **kwargs):
  with pytest.raises(error) as raised:
    check(grads, params, closure, **kwargs)
  text = str(raised.value)
  assert text.startswith("check: ")
  assert not re.search(r"Array\(|\[ *-?\d+\.", text)  # no arrays
  return text


def test_the_same_gradients_pass():
  check(GRADS, PARAMS, grad_fn)
  check(jax.jit(grad_fn)(PARAMS), PARAMS, grad_fn)
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  check(zeros, PARAMS, lambda params: zeros)


@pytest.mark.parametrize(("relative", "raises"), [(0.9e-3, False), (1.2e-3, True)])
def test_rtol_is_of_the_whole_norm(relative, raises):
  """A large relative error of a small leaf is none of the whole gradient."""
  grads = {"large": jnp.array([1000.0]), "small": jnp.array([0.0])}
  closure = lambda params: grads | {"small": jnp.array([1000.0 * relative])}
  if raises:
    assert "0.0012 of the larger" in message(grads, closure, grads)
  else:
    check(grads, grads, closure)
  check(grads, grads, closure, rtol=2e-3)


def test_another_batch():
  text = message(GRADS, lambda params: jax.grad(loss_fn)(params, 2 * SCALE))
  # bias: (3, 24) against (6, 48); kernel: the same (3, -4)
  norm, other = np.sqrt(25 + 9 + 576), np.sqrt(25 + 36 + 2304)
  difference = np.sqrt(9 + 576) / other
  assert f"their difference is {difference:.3g} of" in text
  assert f"norm of grads is {norm:.3g}, that of grad_fn(params) {other:.3g}" in text
  assert "not parallel" in text
  assert "grads['bias'] of shape (2,), where it is 0.5 of" in text
  for cause in ("another batch", "dropout key", "MultiSteps", "transform"):
    assert cause in text


@pytest.mark.parametrize("scale", [1 / 12.2, 65536.0])
def test_clipped_or_scaled(scale):
  text = message(jax.tree.map(lambda g: scale * g, GRADS), grad_fn)
  assert "They are parallel" in text
  assert "clipped" in text
  assert "transform" in text


def test_opposite_gradients_are_not_parallel():
  text = message(jax.tree.map(jnp.negative, GRADS), grad_fn)
  assert "their difference is 2 of" in text
  assert "not parallel" in text


def test_a_stateful_random_source():
  keys = iter(jax.random.split(jax.random.key(0), 4))

  def stateful(params):
    kept = jax.random.bernoulli(next(keys), 0.5, (2,))
    return {"kernel": params["kernel"], "bias": jnp.where(kept, params["bias"], 0)}

  text = message({"kernel": PARAMS["kernel"], "bias": PARAMS["bias"]}, stateful)
  assert "Two calls of grad_fn differ" in text
  assert "stateful random source" in text


def test_a_cast():
  """A gradient that was rounded to float8: the error names both dtypes."""
  rounded = jax.tree.map(lambda g: g.astype(jnp.float8_e4m3fn), {"w": jnp.array([1.06, 1.06])})
  text = message(rounded, lambda params: params, {"w": jnp.array([1.06, 1.06])})
  assert "float8_e4m3fn against float32" in text


def test_closures_that_return_something_else():
  text = message(GRADS, lambda params: jax.value_and_grad(loss_fn)(params))
  assert "(value, grads)" in text
  text = message(GRADS, lambda params: (grad_fn(params), {"aux": 1.0}))
  assert "(grads, aux)" in text


def test_not_finite():
  broken = lambda params: GRADS | {"bias": jnp.array([jnp.nan, 0.0])}
  assert "the result of grad_fn is not finite" in message(GRADS, broken)
  assert "check: grads is not finite" in message(broken(PARAMS), grad_fn)


def test_under_jit_it_says_to_call_it_outside():
  for closure in (grad_fn, lambda params: GRADS):
    with pytest.raises(ValueError, match="outside jit"):
      jax.jit(lambda grads, closure=closure: check(grads, PARAMS, closure))(GRADS)
  with pytest.raises(ValueError, match="outside jit"):  # the closure alone is traced
    jax.jit(lambda scale: check(GRADS, PARAMS, lambda p: jax.grad(loss_fn)(p, scale)))(SCALE)
