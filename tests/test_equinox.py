"""The Equinox glue: gradients and closure over a model's inexact arrays."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
import flatopt.equinox

pytestmark = pytest.mark.usefixtures("standard_promotion")
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)


@pytest.fixture
def standard_promotion():
  with jax.numpy_dtype_promotion("standard"):  # equinox itself promotes
    yield


class Model(eqx.Module):
  """Holds what is not differentiated, too: a count, a function and None."""

  dense: eqx.nn.Linear
  count: jax.Array
  rate: float
  activation: object
  nothing: None

  def __init__(self):
    self.dense = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    self.count = jnp.array(3)
    self.rate = 0.5
    self.activation = jnp.tanh
    self.nothing = None

  def __call__(self, x, key):
    kept = jax.random.bernoulli(key, 0.5 if self.rate == 0.5 else 0, (2,))
    return jnp.where(kept, self.activation(self.dense(x)), 0) * self.count


def loss_fn(model, x, *, key):
  y = jax.vmap(model)(x, jax.random.split(key, len(x)))
  return jnp.mean(y**2), (y, "aux")


def gradient(weight, bias, kept):
  """Of ``mean((3 * kept * tanh(W x + b))^2)``."""
  y = np.tanh(X @ weight.T + bias)
  through = 2 * 9 * kept * y * (1 - y**2) / y.size
  return through.T @ X, through.sum(axis=0)


@pytest.fixture(params=["eager", "filter_jit"])
def compiled(request):
  return eqx.filter_jit if request.param == "filter_jit" else lambda fn: fn


def test_right_values(compiled):
  model, key = Model(), jax.random.key(7)
  step_fn = flatopt.equinox.value_and_grad(loss_fn, has_aux=True)

  @compiled
  def step(model, x, key):
    (loss, (y, _)), grads, grad_fn = step_fn(model, x, key=key)
    elsewhere = jax.tree.map(lambda w: 1.5 * w, eqx.filter(model, eqx.is_inexact_array))
    return loss, y, grads, grad_fn(elsewhere)

  loss, y, grads, elsewhere = step(model, X, key)
  kept = np.asarray(
    jax.vmap(lambda k: jax.random.bernoulli(k, 0.5, (2,)))(jax.random.split(key, 6))
  )
  weight, bias = np.asarray(model.dense.weight), np.asarray(model.dense.bias)
  expected_y = 3 * kept * np.tanh(X @ weight.T + bias)
  np.testing.assert_allclose(y, expected_y, rtol=1e-5)
  np.testing.assert_allclose(loss, np.mean(expected_y**2), rtol=1e-5)
  for found, scale in ((grads, 1.0), (elsewhere, 1.5)):
    for leaf, expected in zip(
      jax.tree.leaves(found), gradient(scale * weight, scale * bias, kept), strict=True
    ):
      np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-6)


def test_the_trees_are_those_of_eqx_filter():
  model = Model()
  params = eqx.filter(model, eqx.is_inexact_array)
  step_fn = flatopt.equinox.value_and_grad(lambda *args, **kwargs: loss_fn(*args, **kwargs)[0])
  _, grads, grad_fn = step_fn(model, X, key=jax.random.key(0))
  assert jax.tree.structure(grads) == jax.tree.structure(params)
  assert jax.tree.structure(grad_fn(params)) == jax.tree.structure(params)
  flatopt.closures.check(grads, params, grad_fn)


def test_transform_is_applied_to_both_gradients():
  model = Model()
  params = eqx.filter(model, eqx.is_inexact_array)
  step_fn = flatopt.equinox.value_and_grad(
    loss_fn, has_aux=True, transform=lambda grads: jax.tree.map(lambda g: 2 * g, grads)
  )
  plain = flatopt.equinox.value_and_grad(loss_fn, has_aux=True)
  _, grads, grad_fn = step_fn(model, X, key=jax.random.key(0))
  expected = plain(model, X, key=jax.random.key(0))[1]
  for found in (grads, grad_fn(params)):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 2 * b, rtol=1e-6), found, expected)


def test_batch_norm_moves_once_a_step():
  class Normed(eqx.Module):
    norm: eqx.nn.BatchNorm
    scale: jax.Array

    def __init__(self):
      self.norm = eqx.nn.BatchNorm(3, axis_name="batch", momentum=0.9, mode="ema")
      self.scale = jnp.ones(3)

    def __call__(self, x, state):
      x, state = self.norm(x, state)
      return self.scale * x, state

  def loss_fn(model, state, x):
    y, state = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
    return jnp.mean(y**3), state

  model, state = eqx.nn.make_with_state(Normed)()
  optimizer = flatopt.sala(optax.chain(flatopt.sam(0.1), optax.sgd(0.1)))
  opt_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

  @eqx.filter_jit
  def step(model, state, opt_state, x):
    step_fn = flatopt.equinox.value_and_grad(loss_fn, has_aux=True)
    (_, state), grads, grad_fn = step_fn(model, state, x)
    params = eqx.filter(model, eqx.is_inexact_array)
    updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
    return eqx.apply_updates(model, updates), state, opt_state

  expected = state
  for _ in range(2):
    _, expected = loss_fn(model, expected, X)
    model, state, opt_state = step(model, state, opt_state, X)
  for found, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("has_aux", [False, True])
def test_sharp_loss_takes_the_steps_of_sam_in_a_chain(x64, compiled, has_aux):
  """In ten plain ``eqx.filter_value_and_grad`` steps."""
  loss_of = loss_fn if has_aux else lambda *args, **kwargs: loss_fn(*args, **kwargs)[0]
  to_double = lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x
  params_of = lambda model: eqx.filter(model, eqx.is_inexact_array)
  model = twin = jax.tree.map(to_double, Model())
  method, base = flatopt.sam(0.1), optax.sgd(0.01, momentum=0.9)
  sharp, chain = (
    flatopt.equinox.sharp_loss(loss_of, method, has_aux=has_aux),
    optax.chain(method, base),
  )
  state, twin_state = base.init(params_of(model)), chain.init(params_of(twin))

  @compiled
  def step(model, state, x, key):
    value, grads = eqx.filter_value_and_grad(sharp, has_aux=has_aux)(model, x, key=key)
    updates, state = base.update(grads, state)
    return eqx.apply_updates(model, updates), state, value

  @compiled
  def twin_step(model, state, x, key):
    step_fn = flatopt.equinox.value_and_grad(loss_of, has_aux=has_aux)
    value, grads, grad_fn = step_fn(model, x, key=key)
    updates, state = chain.update(grads, state, params_of(model), grad_fn=grad_fn)
    return eqx.apply_updates(model, updates), state, value

  for seed in range(10):
    key = jax.random.key(seed)
    model, state, value = step(model, state, X.astype(float), key)
    twin, twin_state, expected = twin_step(twin, twin_state, X.astype(float), key)
    assert not has_aux or value[1][1] == "aux"
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12)
    jax.tree.map(close, eqx.filter(value, eqx.is_array), eqx.filter(expected, eqx.is_array))
  jax.tree.map(close, params_of(model), params_of(twin))


def test_a_state_goes_on_from_equinox_own_file(tmp_path):
  params = eqx.filter(eqx.nn.Linear(3, 2, key=jax.random.key(0)), eqx.is_inexact_array)
  optimizer = flatopt.sala(optax.sgd(0.1, momentum=0.9), sync_period=2, rho=10.0)
  grad_fn = jax.grad(lambda params: jnp.mean(jax.vmap(params)(X) ** 2))

  @jax.jit
  def step(params, opt_state):
    updates, opt_state = optimizer.update(grad_fn(params), opt_state, params, grad_fn=grad_fn)
    return eqx.apply_updates(params, updates), opt_state

  saved = step(*step(params, optimizer.init(params)))
  eqx.tree_serialise_leaves(tmp_path / "state.eqx", saved)
  restored = eqx.tree_deserialise_leaves(tmp_path / "state.eqx", (params, optimizer.init(params)))
  chex.assert_trees_all_equal(step(*restored), step(*saved))
