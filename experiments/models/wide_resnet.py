"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146)."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from experiments.models.resnet import BatchNorm, Conv1x1, Conv3x3


class WideBlock(nn.Module):
  features: int
  strides: int
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x_BxHxWxC, *, train: bool):
    norm = functools.partial(BatchNorm, use_running_average=not train, dtype=self.dtype)
    activated = nn.relu(norm()(x_BxHxWxC))
    y_BxHxWxD = Conv3x3(self.features, strides=self.strides, dtype=self.dtype)(activated)
    y_BxHxWxD = nn.relu(norm()(y_BxHxWxD))
    y_BxHxWxD = nn.Dropout(self.dropout, deterministic=not train)(y_BxHxWxD)
    y_BxHxWxD = Conv3x3(self.features, dtype=self.dtype)(y_BxHxWxD)
    if x_BxHxWxC.shape == y_BxHxWxD.shape:
      return x_BxHxWxC + y_BxHxWxD
    return Conv1x1(self.features, strides=self.strides, dtype=self.dtype)(activated) + y_BxHxWxD


class WideResNet(nn.Module):
  """WRN-depth-widen: images_BxHxWxC -> logits_BxK."""

  depth: int = 28  # 6 n + 4
  widen: int = 10
  dropout: float = 0.0
  classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images_BxHxWxC, *, train: bool):
    blocks, rest = divmod(self.depth - 4, 6)
    if rest or blocks < 1:
      raise ValueError(f"WideResNet: depth must be 6 n + 4 with n >= 1; got {self.depth}")
    x = Conv3x3(16, dtype=self.dtype)(images_BxHxWxC)
    for stage in range(3):
      for block in range(blocks):
        strides = 2 if stage > 0 and block == 0 else 1
        features = 16 * self.widen * 2**stage
        x = WideBlock(features, strides, self.dropout, self.dtype)(x, train=train)
    x = nn.relu(BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
    features_BxD = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.classes)(features_BxD)
