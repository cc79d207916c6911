"""The models: published sizes, logits, dtypes, and what the language model must not see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import models
from experiments.models.llama import rotary
from tests.oracle.trajectory import quick_jit

IMAGENET, CIFAR = (1, 224, 224, 3), (1, 32, 32, 3)
ti, s = (functools.partial(models.VisionTransformer, **models.VIT_SHAPES[k]) for k in ("ti", "s"))

# In millions, to the papers' own digits; ResNet-18's to 50's as usual for their form on small images.
RESNETS = {"20": "0.27", "56": "0.85", "18": "11.17", "34": "21.28", "50": "23.52"}
PUBLISHED = {
  **{
    f"resnet{layers}": (models.ResNet(**models.RESNET_SHAPES[layers]), CIFAR, published)
    for layers, published in RESNETS.items()
  },
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
  classes = 257 if float(name[:-1]) < 60 else 50_304
  model = models.Llama(**models.LLAMA_SHAPES[name], classes=classes)
  params = variable_shapes(model, jnp.zeros((1, 4), jnp.int32))["params"]
  assert count_millions(params) == pytest.approx(float(name[:-1]), rel=0.025)


def test_tied_llama_has_one_matrix_less():
  shapes = [
    variable_shapes(
      models.Llama(**models.LLAMA_SHAPES["0.9M"], tied=tied, classes=100),
      jnp.zeros((1, 4), jnp.int32),
    )
    for tied in (False, True)
  ]
  untied, tied = (count_millions(s["params"]) for s in shapes)
  assert untied - tied == pytest.approx(100 * 128 / 1e6)


TINY = {
  "resnet": (models.ResNet((1, 1), 4, projection=False), (2, 8, 8, 3)),
  "resnet, projection": (models.ResNet((1, 1), 4, projection=True), (2, 8, 8, 1)),
  "resnet, bottleneck": (models.ResNet((1, 1), 4, True, bottleneck=True), (2, 8, 8, 3)),
  "wide resnet": (models.WideResNet(10, 1, dropout=0.5), (2, 8, 8, 1)),
  "vit": (models.VisionTransformer(4, 8, 1, 2, dropout=0.5), (2, 8, 8, 3)),
  "llama": (models.Llama(1, 8, 2, 6, classes=10), (2, 6)),
  "llama, tied": (models.Llama(1, 8, 2, 6, tied=True, classes=10), (2, 6)),
}


@functools.cache
def tiny(name):
  """A model, a batch, and variables drawn here: an initialiser takes seconds to compile."""
  model, shape = TINY[name]
  rng = np.random.default_rng(0)
  if name.startswith("llama"):
    inputs = jnp.asarray(rng.integers(0, 10, shape), jnp.int32)
  else:
    inputs = jnp.asarray(rng.normal(size=shape), jnp.float32)

  def draw(path, leaf):
    matrix = path[-1].key in ("kernel", "embedding")
    values = rng.normal(scale=0.3, size=leaf.shape) if matrix else rng.uniform(0.5, 1.5, leaf.shape)
    return jnp.asarray(values, jnp.float32)

  return model, inputs, jax.tree.map_with_path(draw, variable_shapes(model, inputs))


@pytest.mark.parametrize("name", TINY)
def test_trains(name):
  """Every parameter gets a gradient, statistics move, and dropout draws by its key."""
  model, inputs, variables = tiny(name)
  state = {k: v for k, v in variables.items() if k != "params"}

  @quick_jit
  def value_and_grad(params, seed):
    def loss_fn(params):
      logits, changed = model.apply(
        {"params": params} | state,
        inputs,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(seed)},
      )
      labels = jnp.zeros(logits.shape[:-1], jnp.int32)
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
      return loss, (logits, changed)

    return jax.value_and_grad(loss_fn, has_aux=True)(params)

  (loss, (logits, changed)), grads = value_and_grad(variables["params"], 1)
  assert logits.shape == (*(inputs.shape if name.startswith("llama") else inputs.shape[:1]), 10)
  assert np.isfinite(loss)
  for path, grad in jax.tree.leaves_with_path(grads):
    assert np.isfinite(grad).all(), path
    # A key's bias adds the same to all of a query's products, which the softmax takes out again.
    assert np.abs(grad).max() > 1e-6 or "['key']['bias']" in jax.tree_util.keystr(path), path
  assert set(changed) == set(state)
  moved = jax.tree.map(lambda old, new: bool(np.any(old != new)), state, dict(changed))
  assert all(jax.tree.leaves(moved))
  other_loss = value_and_grad(variables["params"], 2)[0][0]
  assert (loss != other_loss) == (getattr(model, "dropout", 0) > 0)


@pytest.mark.parametrize("name", TINY)
def test_evaluation_takes_no_key_and_changes_no_statistics(name):
  model, inputs, variables = tiny(name)
  # Flax raises where a key is missing, or a collection that is not mutable would change.
  jax.eval_shape(lambda: model.apply(variables, inputs, train=False))


@pytest.mark.parametrize("name", TINY)
def test_computes_in_its_dtype_on_float32_params_and_hands_float32_logits_on(name):
  model, inputs, _ = tiny(name)
  model = model.clone(dtype=jnp.bfloat16)
  with jax.numpy_dtype_promotion("standard"):  # Flax's norms promote bfloat16 by themselves
    variables = variable_shapes(model, inputs)
    logits, captured = jax.eval_shape(
      lambda v: model.apply(v, inputs, train=False, capture_intermediates=True), variables
    )
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  outputs = captured["intermediates"]
  outputs.pop("__call__")
  if not name.startswith("llama"):
    assert (
      outputs.pop("Dense_0" if name != "vit" else "Dense_1")["__call__"][0].dtype == jnp.float32
    )
  assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype("bfloat16")}


def test_llama_sees_no_later_token():
  model, tokens, variables = tiny("llama")
  logits_fn = quick_jit(lambda tokens: model.apply(variables, tokens, train=False)[0])
  logits = logits_fn(tokens)
  for position in range(tokens.shape[1]):
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


@pytest.mark.parametrize("name", ["llama", "llama, tied"])
def test_llama_is_its_equations(name):
  model, tokens, variables = tiny(name)
  logits = quick_jit(lambda: model.apply(variables, tokens, train=False))()
  tree = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
  block, embedding = tree["LlamaBlock_0"], tree["Embed_0"]["embedding"]
  norm = lambda x, scale: x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale
  length, head = tokens.shape[1], model.width // model.heads
  # Pairs of features as complex numbers: a turn is a product with e^(i angle).
  angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(head // 2) / (head // 2))
  turn = lambda x: (x[:, : head // 2] + 1j * x[:, head // 2 :]) * np.exp(1j * angles)
  for row, expected in zip(np.asarray(tokens), np.asarray(logits), strict=True):
    x = embedding[row]
    y = norm(x, block["attention_norm"]["scale"])
    for n in range(model.heads):
      q, k, v = (y @ block[part]["kernel"][:, n] for part in ("query", "key", "value"))
      scores = np.real(turn(q) @ turn(k).conj().T) / np.sqrt(head)
      weights = np.tril(np.exp(scores))
      x = x + weights / weights.sum(axis=1, keepdims=True) @ v @ block["out"]["kernel"][n]
    y = norm(x, block["mlp_norm"]["scale"])
    gate, up = y @ block["gate"]["kernel"], y @ block["up"]["kernel"]
    x = x + gate / (1 + np.exp(-gate)) * up @ block["down"]["kernel"]
    x = norm(x, tree["RMSNorm_0"]["scale"])
    out = x @ (embedding.T if model.tied else tree["Dense_0"]["kernel"])
    np.testing.assert_allclose(expected, out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("model", "inputs", "message"),
  [
    (models.WideResNet(27), jnp.zeros(CIFAR), r"depth must be 6 n \+ 4 .* got 27"),
    (ti(patch=5), jnp.zeros(CIFAR), "patch must divide the image's 32x32; got 5"),
    (models.Llama(1, 8, 3, 8), jnp.zeros((1, 4), jnp.int32), "heads must divide .* 8; got 3"),
  ],
)
def test_impossible_shapes_are_refused(model, inputs, message):
  with pytest.raises(ValueError, match=message):
    variable_shapes(model, inputs)
