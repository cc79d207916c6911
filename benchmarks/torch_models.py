"""The four models in PyTorch, with the params of ``benchmarks.models``. It needs torch 2.5.

The layers are PyTorch's own and the layouts are those that they expect, so the base step is as
fast as PyTorch's users know it.
"""

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.models import LLAMA, SMALL_LLAMA, LlamaSize, Model

RTOL = 1e-3  # of logits in float32


def _parameter(value) -> nn.Parameter:
  return nn.Parameter(torch.tensor(np.asarray(value)))


def _linear(kernel, bias=None) -> nn.Linear:
  layer = nn.Linear(*kernel.shape, bias=bias is not None)
  layer.weight = _parameter(kernel.T)
  if bias is not None:
    layer.bias = _parameter(bias)
  return layer


def _mlp(params) -> nn.Module:
  *hidden, out = (_linear(**layer) for layer in params)
  return nn.Sequential(*(part for layer in hidden for part in (layer, nn.ReLU())), out)


class _Mixer(nn.Module):
  def __init__(self, params):
    super().__init__()
    perceptron = lambda layers: nn.Sequential(
      _linear(**layers[0]), nn.GELU(approximate="tanh"), _linear(**layers[1])
    )
    self.stem, self.head = _linear(**params["stem"]), _linear(**params["head"])
    self.tokens = nn.ModuleList(perceptron(block["tokens"]) for block in params["blocks"])
    self.channels = nn.ModuleList(perceptron(block["channels"]) for block in params["blocks"])

  def forward(self, x):
    standardise = lambda x: functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    x = self.stem(x)
    for tokens, channels in zip(self.tokens, self.channels, strict=True):
      x = x + tokens(standardise(x).transpose(1, 2)).transpose(1, 2)
      x = x + channels(standardise(x))
    return self.head(standardise(x).mean(1))


class _Cnn(nn.Module):
  def __init__(self, params):
    super().__init__()
    layers = []
    for layer in params["convolutions"]:
      height, width, m, n = layer["kernel"].shape
      convolution = nn.Conv2d(m, n, (height, width), padding="same")
      convolution.weight = _parameter(layer["kernel"].transpose(3, 2, 0, 1))
      convolution.bias = _parameter(layer["bias"])
      layers += [convolution, nn.ReLU(), nn.AvgPool2d(2)]
    hidden, out = params["dense"]
    # PyTorch flattens channels, height, width; JAX flattened height, width, channels.
    channels = params["convolutions"][-1]["kernel"].shape[-1]
    side = int((len(hidden["kernel"]) // channels) ** 0.5)
    kernel = hidden["kernel"].reshape(side, side, channels, -1).transpose(2, 0, 1, 3)
    hidden = _linear(kernel.reshape(hidden["kernel"].shape), hidden["bias"])
    self.layers = nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), _linear(**out))

  def forward(self, x):
    return self.layers(x.permute(0, 3, 1, 2))  # channels last in memory: faster on a CPU


class _Norm(nn.Module):
  def __init__(self, scale):
    super().__init__()
    self.scale = _parameter(scale)

  def forward(self, x):
    return functional.rms_norm(x, self.scale.shape, self.scale, eps=1e-6)


class _Block(nn.Module):
  def __init__(self, weights, size: LlamaSize):
    super().__init__()
    self.size = size
    for name, value in weights.items():
      setattr(self, name, _Norm(value) if name.endswith("norm") else _linear(value))

  def forward(self, x, sin, cos):
    split = lambda x: x.unflatten(-1, (-1, self.size.dim // self.size.heads)).transpose(1, 2)

    def rotate(x):
      first, second = x.chunk(2, -1)
      return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    h = self.attention_norm(x)
    query, key, value = (split(layer(h)) for layer in (self.query, self.key, self.value))
    attended = functional.scaled_dot_product_attention(
      rotate(query), rotate(key), value, is_causal=True, enable_gqa=True
    )
    x = x + self.attention_out(attended.transpose(1, 2).flatten(2))
    h = self.mlp_norm(x)
    return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class _Llama(nn.Module):
  def __init__(self, params, size: LlamaSize = SMALL_LLAMA):
    super().__init__()
    self.embedding = nn.Embedding.from_pretrained(_parameter(params["embedding"]), freeze=False)
    layers = ({name: w[i] for name, w in params["layers"].items()} for i in range(size.layers))
    self.blocks = nn.ModuleList(_Block(weights, size) for weights in layers)
    self.norm, self.head = _Norm(params["norm"]), _linear(params["head"])
    length, half = LLAMA.input_shape[1], size.dim // size.heads // 2
    angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(half) / half)
    self.register_buffer("sin", torch.tensor(np.sin(angles), dtype=torch.float32))
    self.register_buffer("cos", torch.tensor(np.cos(angles), dtype=torch.float32))

  def forward(self, tokens):
    x = self.embedding(tokens)
    for block in self.blocks:
      x = block(x, self.sin, self.cos)
    return self.head(self.norm(x))


_MODULES = {"mlp": _mlp, "mixer": _Mixer, "cnn": _Cnn, "llama": _Llama}


def make_batch(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
  """Returns the model's batch. Token numbers and labels are int64, as PyTorch's users have them."""
  inputs, labels = (torch.tensor(np.asarray(x)) for x in model.make_batch())
  return inputs.long() if model.tokens else inputs, labels.long()


def make_module(model: Model) -> nn.Module:
  """Makes the module, and checks that it is the same model.

  Raises:
    RuntimeError: it has another number of params, or its logits are not those of ``model``.
  """
  params = model.make_params()
  module = _MODULES[model.name](jax.tree.map(np.asarray, params))
  with torch.no_grad():
    logits = module(make_batch(model)[0]).numpy()
  expected = np.asarray(jax.jit(model.logits_fn)(params, model.make_batch()[0]))
  error = np.max(np.abs(logits - expected)) / np.max(np.abs(expected))
  sizes = sum(p.numel() for p in module.parameters()), sum(x.size for x in jax.tree.leaves(params))
  if sizes[0] != sizes[1] or not error < RTOL:
    raise RuntimeError(
      f"PyTorch's {model.name} is another model: {sizes[0]} params, not {sizes[1]}; "
      f"its logits differ by {error:.1e} of the largest"
    )
  return module
