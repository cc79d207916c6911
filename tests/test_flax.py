"""Linen and NNX: one change of BatchNorm's statistics a step, one dropout mask a step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import flatopt._pure_nnx
import flatopt.linen
import flatopt.nnx
from tests import problem
from tests.conformance.cases import CASES

NUM_STEPS = 20
pytestmark = pytest.mark.usefixtures("standard_promotion")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@pytest.fixture
def standard_promotion():
  with jax.numpy_dtype_promotion("standard"):  # flax itself promotes
    yield


class LinenModel(linen.Module):
  """Dense, BatchNorm, dropout, dense."""

  @linen.compact
  def __call__(self, inputs):
    hidden = linen.BatchNorm(use_running_average=False)(linen.Dense(6)(inputs))
    hidden = linen.Dropout(0.3, deterministic=False)(jnp.tanh(hidden))
    return linen.Dense(problem.NUM_CLASSES)(hidden)


class TrainState(flatopt.linen.TrainState):
  batch_stats: chex.ArrayTree


def linen_pass(params, batch_stats, batch, key):
  logits, changed = LinenModel().apply(
    {"params": params, "batch_stats": batch_stats},
    batch.inputs,
    rngs={"dropout": key},
    mutable=["batch_stats"],
  )
  loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels))
  return loss, changed["batch_stats"]


@each_case
def test_linen_statistics_are_those_of_the_clean_passes(case):
  model = LinenModel()
  batch = problem.make_batch()
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  variables = model.init(keys, batch.inputs)
  state = TrainState.create(apply_fn=model.apply, tx=case.make(), **variables)

  @jax.jit
  def step(state, batch, key):
    def grad_fn(params):
      return jax.grad(linen_pass, has_aux=True)(params, state.batch_stats, batch, key)[0]

    def sampled_grad_fn(params, label_key):
      labels = jax.random.randint(label_key, batch.labels.shape, 0, problem.NUM_CLASSES)
      sampled = batch._replace(labels=labels)
      return jax.grad(linen_pass, has_aux=True)(params, state.batch_stats, sampled, key)[0]

    grads, batch_stats = jax.grad(linen_pass, has_aux=True)(
      state.params, state.batch_stats, batch, key
    )
    return state.apply_gradients(
      grads=grads, batch_stats=batch_stats, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
    )

  expected = variables["batch_stats"]
  clean_pass = jax.jit(lambda *args: linen_pass(*args)[1])
  for seed in range(NUM_STEPS):
    batch, key = problem.make_batch(seed), jax.random.key(seed)
    expected = clean_pass(state.params, expected, batch, key)
    state = step(state, batch, key)
  assert int(state.step) == NUM_STEPS
  chex.assert_trees_all_close(state.batch_stats, expected, rtol=1e-5)


def test_a_collection_to_overwrite_is_what_the_closure_sees_too():
  """Float8's scales: the optimizer sees the params alone, the loss sees both."""
  params = {"params": {"w": jnp.array([1.0, 2.0])}, "_overwrite_with_gradient": {"s": jnp.ones(())}}

  def grad_fn(params):
    w, s = params["params"]["w"], params["_overwrite_with_gradient"]["s"]
    return {"params": {"w": 4 * s * w**3}, "_overwrite_with_gradient": {"s": s + 1}}

  state = flatopt.linen.TrainState.create(apply_fn=None, params=params, tx=flatopt.sam(0.5))
  for scale in (1.0, 2.0):
    w = state.params["params"]["w"]
    state = state.apply_gradients(grads=grad_fn(state.params), grad_fn=grad_fn)
    expected = w + 4 * scale * (w + 0.5 * w**3 / jnp.linalg.norm(w**3)) ** 3
    np.testing.assert_allclose(state.params["params"]["w"], expected, rtol=1e-6)
    assert state.params["_overwrite_with_gradient"]["s"] == scale + 1


class NnxModel(nnx.Module):
  """Dense, BatchNorm, dropout, dense."""

  def __init__(self, rngs):
    self.hidden = nnx.Linear(problem.NUM_INPUTS, 6, rngs=rngs)
    self.norm = nnx.BatchNorm(6, rngs=rngs)
    self.dropout = nnx.Dropout(0.3, rngs=rngs)
    self.out = nnx.Linear(6, problem.NUM_CLASSES, rngs=rngs)

  def __call__(self, inputs):
    return self.out(self.dropout(jnp.tanh(self.norm(self.hidden(inputs)))))


def nnx_loss(model, batch):
  logits = model(batch.inputs)
  loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels))
  return loss, logits


@pytest.mark.parametrize(
  "case", [c for c in CASES if c.name in ("sam", "rst", "sala", "lookbehind")], ids=lambda c: c.name
)
def test_nnx_statistics_and_dropout_are_those_of_the_clean_passes(case):
  model = NnxModel(nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, case.make(), wrt=nnx.Param)
  shadow = nnx.clone(model)  # sees the clean passes only

  @nnx.jit
  def step(model, optimizer, batch):
    step_fn = flatopt.nnx.value_and_grad(nnx_loss, has_aux=True)
    _, grads, grad_fn = step_fn(model, batch)
    params = flatopt._pure_nnx.as_pure(nnx.state(model, nnx.Param))
    again = grad_fn(params)
    optimizer.update(model, grads, grad_fn=grad_fn)
    return flatopt._pure_nnx.as_pure(grads), again

  clean_pass = nnx.jit(lambda model, batch: nnx_loss(model, batch)[0])
  for seed in range(NUM_STEPS):
    batch = problem.make_batch(seed)
    nnx.update(shadow, nnx.state(model, nnx.Param))
    clean_pass(shadow, batch)
    grads, again = step(model, optimizer, batch)
    chex.assert_trees_all_close(grads, again, rtol=1e-6)  # the same masks in both passes
  np.testing.assert_allclose(model.norm.mean[...], shadow.norm.mean[...], rtol=1e-5)
  np.testing.assert_allclose(model.norm.var[...], shadow.norm.var[...], rtol=1e-5)
  assert int(model.dropout.rngs.count[...]) == NUM_STEPS


def test_the_clean_and_the_perturbed_loss_can_both_be_logged():
  """A closure may keep what it computed: here SAM's two losses, out of one trace."""
  batch = problem.make_batch()
  optimizer = flatopt.sam(rho=0.2)
  params = problem.make_params()

  @jax.jit
  def losses(params):
    seen = []

    def grad_fn(params):
      loss, grads = jax.value_and_grad(problem.loss_fn)(params, batch)
      seen.append(loss)
      return grads

    grads = grad_fn(params)
    optimizer.update(grads, optimizer.init(params), params, grad_fn=grad_fn)
    return seen

  clean, perturbed = losses(params)
  assert perturbed > clean == pytest.approx(float(problem.loss_fn(params, batch)))
