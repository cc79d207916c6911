"""The models: published sizes, logits, dtypes, and what the language model must not see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import models
from experiments.models.llama import rotary

IMAGENET, CIFAR = (1, 224, 224, 3), (1, 32, 32, 3)
ti, s = (functools.partial(models.VisionTransformer, **models.VIT_SHAPES[k]) for k in ("ti", "s"))

# In millions, to the papers' own digits; ResNet-18's as is usual for its form on small images.
PUBLISHED = {
  "resnet20": (models.resnet20(), CIFAR, "0.27"),
  "resnet56": (models.resnet56(), CIFAR, "0.85"),
  "resnet18": (models.resnet18(), CIFAR, "11.17"),
  "wrn-28-10": (models.WideResNet(28, 10), CIFAR, "36.5"),
  "vit-ti/16": (ti(patch=16, classes=1000), IMAGENET, "5.7"),
  "vit-s/16": (s(patch=16, classes=1000), IMAGENET, "22"),
}


def variable_shapes(model, inputs):
  return jax.eval_shape(lambda: model.init(jax.random.key(0), inputs, train=False))


def count_millions(params) -> float:
  return sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_is_the_published_one(name):
  model, shape, published = PUBLISHED[name]
  params = variable_shapes(model, jnp.zeros(shape))["params"]
  digits = len(published.partition(".")[2])
  assert f"{count_millions(params):.{digits}f}" == published
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", models.LLAMA_SHAPES)
def test_llama_sizes_are_their_names(name):
  vocab_size = 257 if float(name[:-1]) < 60 else 50_304
  model = models.Llama(vocab_size, **models.LLAMA_SHAPES[name])
  params = variable_shapes(model, jnp.zeros((1, 4), jnp.int32))["params"]
  assert count_millions(params) == pytest.approx(float(name[:-1]), rel=0.025)


def test_tied_llama_has_one_matrix_less():
  shapes = [
    variable_shapes(
      models.Llama(100, **models.LLAMA_SHAPES["0.9M"], tied=tied), jnp.zeros((1, 4), jnp.int32)
    )
    for tied in (False, True)
  ]
  untied, tied = (count_millions(s["params"]) for s in shapes)
  assert untied - tied == pytest.approx(100 * 128 / 1e6)


TINY = {
  "resnet": (models.ResNet((1, 1), 4, projection=False), (2, 8, 8, 3)),
  "resnet, projection": (models.ResNet((1, 1), 4, projection=True), (2, 8, 8, 1)),
  "wide resnet": (models.WideResNet(10, 1, dropout=0.5), (2, 8, 8, 1)),
  "vit": (models.VisionTransformer(4, 8, 1, 2, dropout=0.5), (2, 8, 8, 3)),
  "llama": (models.Llama(10, 1, 8, 2, 8), (2, 6)),
  "llama, tied": (models.Llama(10, 1, 8, 2, 8, tied=True), (2, 6)),
}


def tiny(name, dtype=jnp.float32):
  model, shape = TINY[name]
  model = model.clone(dtype=dtype)
  rng = np.random.default_rng(0)
  if name.startswith("llama"):
    inputs = jnp.asarray(rng.integers(0, 10, shape), jnp.int32)
  else:
    inputs = jnp.asarray(rng.normal(size=shape), jnp.float32)
  return model, inputs, model.init(jax.random.key(0), inputs, train=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TINY)
def test_trains_in_its_dtype_on_float32_params(name, dtype):
  """Logits and gradients are float32, every parameter gets one, and statistics move."""
  model, inputs, variables = tiny(name, jnp.dtype(dtype))
  state = {k: v for k, v in variables.items() if k != "params"}

  @jax.jit
  def loss_and_grad(params):
    def loss_fn(params):
      logits, changed = model.apply(
        {"params": params} | state,
        inputs,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(1)},
      )
      labels = jnp.zeros(logits.shape[:-1], jnp.int32)
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
      return loss, (logits, changed)

    return jax.value_and_grad(loss_fn, has_aux=True)(params)

  (loss, (logits, changed)), grads = loss_and_grad(variables["params"])
  assert logits.dtype == jnp.float32
  assert logits.shape == (*(inputs.shape if name.startswith("llama") else inputs.shape[:1]), 10)
  assert np.isfinite(loss)
  for path, grad in jax.tree.leaves_with_path(grads):
    assert grad.dtype == jnp.float32, path
    assert np.isfinite(grad).all(), path
  # A key's bias adds the same to all of a query's products, which the softmax takes out again.
  still = [jax.tree_util.keystr(p) for p, g in jax.tree.leaves_with_path(grads) if not np.any(g)]
  assert all("'key']['bias']" in path for path in still)
  assert set(changed) == set(state)
  moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), state, dict(changed))
  assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("name", ["wide resnet", "vit"])
def test_dropout_is_of_training_only(name):
  model, inputs, variables = tiny(name)
  apply = lambda train, seed: model.apply(
    variables,
    inputs,
    train=train,
    rngs={"dropout": jax.random.key(seed)},
    mutable=["batch_stats"],
  )[0]
  np.testing.assert_array_equal(apply(False, 0), apply(False, 1))
  assert not np.allclose(apply(True, 0), apply(True, 1))


def test_llama_sees_no_later_token():
  model = models.Llama(10, 2, 12, 2, 8)
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 10, (1, 8)), jnp.int32)
  variables = model.init(jax.random.key(0), tokens, train=False)
  logits_fn = jax.jit(lambda tokens: model.apply(variables, tokens, train=False)[0])
  logits = logits_fn(tokens)
  for position in range(8):
    other = logits_fn(tokens.at[0, position].set((tokens[0, position] + 1) % 10))
    np.testing.assert_array_equal(other[:position], logits[:position])
    assert (np.abs(other[position:] - logits[position:]).max(axis=-1) > 1e-7).all()


@pytest.mark.parametrize("features", [8, 5])
def test_rotary_products_depend_on_distance_alone(features):
  query, key = np.random.default_rng(0).normal(size=(2, features)).astype(np.float32)
  everywhere = lambda x: jnp.broadcast_to(jnp.asarray(x), (1, 7, 1, features))
  q, k = (np.asarray(rotary(everywhere(x)))[0, :, 0] for x in (query, key))
  products = q @ k.T
  for distance in range(-6, 7):
    along = np.diagonal(products, distance)
    np.testing.assert_allclose(along, along[0], rtol=1e-5, atol=1e-5)
  assert np.ptp(products[0]) > 0.1
  np.testing.assert_allclose(np.linalg.norm(q, axis=1), np.linalg.norm(query), rtol=1e-5)
  # Which two features turn together, and how fast: the first pair by one radian a position.
  pairs = features // 2
  turned = query[0] * np.cos(3) - query[pairs] * np.sin(3)
  np.testing.assert_allclose(q[3, 0], turned, rtol=1e-4)


def test_position_matters_to_llama():
  model = models.Llama(10, 1, 8, 2, 8)
  tokens = jnp.array([[1, 2, 3], [2, 1, 3]], jnp.int32)
  variables = model.init(jax.random.key(0), tokens, train=False)
  one, two = model.apply(variables, tokens, train=False)[:, -1]
  assert np.abs(one - two).max() > 1e-7


@pytest.mark.parametrize(
  ("model", "inputs", "message"),
  [
    (models.WideResNet(27), jnp.zeros(CIFAR), r"depth must be 6 n \+ 4 .* got 27"),
    (ti(patch=5), jnp.zeros(CIFAR), "patch must divide the image's 32x32; got 5"),
    (models.Llama(10, 1, 8, 3, 8), jnp.zeros((1, 4), jnp.int32), "heads must divide .* 8; got 3"),
  ],
)
def test_impossible_shapes_are_refused(model, inputs, message):
  with pytest.raises(ValueError, match=message):
    variable_shapes(model, inputs)
