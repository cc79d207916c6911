"""Four small models in plain JAX, each with a batch: an MLP, a Mixer, a CNN and a Llama.

A gradient takes 5 to 50 ms on two cores. The layers of the Llama are scanned, as in large models.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = Any


class Model(NamedTuple):
  """A model ``logits_fn(params, inputs)``, with the shapes of its batches."""

  name: str
  init: Callable[[np.random.Generator], Params]
  logits_fn: Callable[[Params, jax.Array], jax.Array]
  input_shape: tuple[int, ...]
  label_shape: tuple[int, ...]
  num_classes: int
  tokens: bool = False  # whether inputs are token numbers below num_classes

  def make_params(self) -> Params:
    params = self.init(np.random.default_rng(0))
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)

  def make_batch(self) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(1)
    if self.tokens:
      inputs = jnp.asarray(rng.integers(0, self.num_classes, self.input_shape), jnp.int32)
    else:
      inputs = jnp.asarray(rng.normal(size=self.input_shape), jnp.float32)
    return inputs, jnp.asarray(rng.integers(0, self.num_classes, self.label_shape), jnp.int32)

  def loss_fn(self, params: Params, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    logits = self.logits_fn(params, inputs)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def kernel(rng: np.random.Generator, *shape: int) -> np.ndarray:
  """Draws a kernel that keeps the variance of its inputs. Leading axes are layers."""
  return rng.normal(size=shape) / math.sqrt(math.prod(shape[-2:-1]))


def dense(rng: np.random.Generator, m: int, n: int) -> dict[str, np.ndarray]:
  return {"kernel": kernel(rng, m, n), "bias": np.zeros(n)}


def apply(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
  return x @ layer["kernel"] + layer["bias"]


WIDTHS = (512, 1024, 1024, 512, 10)


def _mlp_logits(params, x):
  for layer in params[:-1]:
    x = jax.nn.relu(apply(layer, x))
  return apply(params[-1], x)


MLP = Model(
  "mlp",
  lambda rng: [dense(rng, m, n) for m, n in itertools.pairwise(WIDTHS)],
  _mlp_logits,
  input_shape=(128, WIDTHS[0]),
  label_shape=(128,),
  num_classes=WIDTHS[-1],
)


def _standardise(x):
  return (x - jnp.mean(x, -1, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-6)


def _mixer_init(rng, patches=64, inputs=48, dim=128, blocks=2):
  block = lambda: {
    "tokens": [dense(rng, patches, 128), dense(rng, 128, patches)],
    "channels": [dense(rng, dim, 512), dense(rng, 512, dim)],
  }
  return {
    "stem": dense(rng, inputs, dim),
    "blocks": [block() for _ in range(blocks)],
    "head": dense(rng, dim, 10),
  }


def _mixer_logits(params, x):
  perceptron = lambda layers, x: apply(layers[1], jax.nn.gelu(apply(layers[0], x)))
  x = apply(params["stem"], x)
  for block in params["blocks"]:
    mixed = perceptron(block["tokens"], _standardise(x).swapaxes(1, 2))
    x = x + mixed.swapaxes(1, 2)
    x = x + perceptron(block["channels"], _standardise(x))
  return apply(params["head"], jnp.mean(_standardise(x), axis=1))


MIXER = Model(
  "mixer", _mixer_init, _mixer_logits, input_shape=(32, 64, 48), label_shape=(32,), num_classes=10
)


def _cnn_init(rng):
  convolution = lambda m, n: {
    "kernel": rng.normal(size=(3, 3, m, n)) / math.sqrt(9 * m),
    "bias": np.zeros(n),
  }
  return {
    "convolutions": [convolution(1, 16), convolution(16, 32)],
    "dense": [dense(rng, 7 * 7 * 32, 64), dense(rng, 64, 10)],
  }


def _cnn_logits(params, x):
  for layer in params["convolutions"]:
    x = jax.lax.conv_general_dilated(
      x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + layer["bias"])
    batch, height, width, channels = x.shape
    x = jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))
  hidden, out = params["dense"]
  return apply(out, jax.nn.relu(apply(hidden, x.reshape(len(x), -1))))


CNN = Model(
  "cnn", _cnn_init, _cnn_logits, input_shape=(32, 28, 28, 1), label_shape=(32,), num_classes=10
)


class LlamaSize(NamedTuple):
  vocabulary: int
  dim: int
  layers: int
  heads: int
  key_value_heads: int
  hidden: int


def llama_shapes(size: LlamaSize) -> dict[str, Any]:
  """Returns the shapes of the params. After the layers, kernels have two axes, scales one."""
  dim, head_dim = size.dim, size.dim // size.heads
  layer = {
    "attention_norm": (dim,),
    "query": (dim, dim),
    "key": (dim, head_dim * size.key_value_heads),
    "value": (dim, head_dim * size.key_value_heads),
    "attention_out": (dim, dim),
    "mlp_norm": (dim,),
    "gate": (dim, size.hidden),
    "up": (dim, size.hidden),
    "down": (size.hidden, dim),
  }
  return {
    "embedding": (size.vocabulary, dim),
    "layers": {name: (size.layers, *shape) for name, shape in layer.items()},
    "norm": (dim,),
    "head": (dim, size.vocabulary),
  }


def _llama_init(rng, size: LlamaSize):
  fill = lambda path, shape: (
    np.ones(shape) if path[-1].key.endswith("norm") else kernel(rng, *shape)
  )
  return jax.tree_util.tree_map_with_path(
    fill, llama_shapes(size), is_leaf=lambda x: isinstance(x, tuple)
  )


def _rms_norm(x, scale):
  return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def _rotate(x):
  """Applies rotary position embeddings to ``(batch, length, heads, head_dim)``."""
  length, half = x.shape[1], x.shape[-1] // 2
  angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(half) / half)
  sin, cos = (jnp.asarray(f(angles)[:, None], x.dtype) for f in (np.sin, np.cos))
  first, second = x[..., :half], x[..., half:]
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def llama_logits(params, tokens, size: LlamaSize, *, remat=False, constrain=lambda x: x):
  """Returns the logits of every next token.

  With ``remat``, the backward pass computes the activations inside each layer again. ``constrain``
  sets the sharding of the activations between the layers.
  """
  batch, length = tokens.shape
  split = lambda x, heads: x.reshape(batch, length, heads, size.dim // size.heads)

  def block(x, w):
    h = _rms_norm(x, w["attention_norm"])
    query = _rotate(split(h @ w["query"], size.heads))
    key, value = (split(h @ w[name], size.key_value_heads) for name in ("key", "value"))
    attended = jax.nn.dot_product_attention(query, _rotate(key), value, is_causal=True)
    x = x + attended.reshape(x.shape) @ w["attention_out"]
    h = _rms_norm(x, w["mlp_norm"])
    return constrain(x + (jax.nn.silu(h @ w["gate"]) * (h @ w["up"])) @ w["down"]), None

  body = jax.checkpoint(block) if remat else block
  x, _ = jax.lax.scan(body, constrain(params["embedding"][tokens]), params["layers"])
  return _rms_norm(x, params["norm"]) @ params["head"]


SMALL_LLAMA = LlamaSize(vocabulary=256, dim=320, layers=4, heads=4, key_value_heads=2, hidden=864)
LLAMA = Model(
  "llama",
  functools.partial(_llama_init, size=SMALL_LLAMA),
  functools.partial(llama_logits, size=SMALL_LLAMA),
  input_shape=(4, 32),
  label_shape=(4, 32),
  num_classes=SMALL_LLAMA.vocabulary,
  tokens=True,
)

MODELS = {model.name: model for model in (MLP, MIXER, CNN, LLAMA)}
