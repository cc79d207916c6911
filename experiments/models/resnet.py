"""Residual networks for small images (He et al. 2016, arXiv 1512.03385)."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

kernel_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Padded evenly, as in the papers: "SAME" pads an even side with stride 2 on the right only.
Conv3x3 = functools.partial(
  nn.Conv, kernel_size=(3, 3), padding=1, use_bias=False, kernel_init=kernel_init
)
Conv1x1 = functools.partial(
  nn.Conv, kernel_size=(1, 1), padding=0, use_bias=False, kernel_init=kernel_init
)
BatchNorm = functools.partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)


class Block(nn.Module):
  features: int
  strides: int
  projection: bool
  bottleneck: bool
  dtype: Any

  @nn.compact
  def __call__(self, x_BxHxWxC, *, train: bool):
    norm = functools.partial(BatchNorm, use_running_average=not train, dtype=self.dtype)
    if self.bottleneck:
      # The 3x3 convolution strides, as the field's code has it: in the paper the first one does.
      convs = (Conv1x1, 1, 1), (Conv3x3, 1, self.strides), (Conv1x1, 4, 1)
    else:
      convs = (Conv3x3, 1, self.strides), (Conv3x3, 1, 1)
    y_BxHxWxD = x_BxHxWxC
    for i, (conv, widen, strides) in enumerate(convs):
      y_BxHxWxD = nn.relu(y_BxHxWxD) if i else y_BxHxWxD
      y_BxHxWxD = conv(widen * self.features, strides=strides, dtype=self.dtype)(y_BxHxWxD)
      y_BxHxWxD = norm()(y_BxHxWxD)
    shortcut = x_BxHxWxC
    if shortcut.shape != y_BxHxWxD.shape:
      features = y_BxHxWxD.shape[-1]
      if self.projection:
        shortcut = norm()(Conv1x1(features, strides=self.strides, dtype=self.dtype)(shortcut))
      else:
        shortcut = shortcut[:, :: self.strides, :: self.strides]
        missing = features - shortcut.shape[-1]
        shortcut = jnp.pad(shortcut, [(0, 0)] * 3 + [(0, missing)])
    return nn.relu(shortcut + y_BxHxWxD)


class ResNet(nn.Module):
  """Stages of blocks of convolutions: images_BxHxWxC -> logits_BxK.

  Each stage after the first halves the image's sides and doubles the features.
  """

  blocks: tuple[int, ...]  # of each stage
  width: int  # features of the first stage
  projection: bool  # shortcuts that change shape: a 1x1 convolution, or zeros for new features
  bottleneck: bool = False  # blocks of 1x1, 3x3 and 1x1 to four times the features, or 3x3 twice
  classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images_BxHxWxC, *, train: bool):
    x = Conv3x3(self.width, dtype=self.dtype)(images_BxHxWxC)
    x = nn.relu(BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
    for stage, blocks in enumerate(self.blocks):
      for block in range(blocks):
        strides = 2 if stage > 0 and block == 0 else 1
        features = self.width * 2**stage
        x = Block(features, strides, self.projection, self.bottleneck, self.dtype)(x, train=train)
    features_BxD = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return nn.Dense(self.classes)(features_BxD)


# The paper's section 4.2, for CIFAR; and its ImageNet nets on small images, as the field runs them:
# a 3x3 convolution in place of the 7x7 one with stride 2 and the pooling behind it.
RESNET_SHAPES = {
  "20": {"blocks": (3, 3, 3), "width": 16, "projection": False},
  "56": {"blocks": (9, 9, 9), "width": 16, "projection": False},
  "18": {"blocks": (2, 2, 2, 2), "width": 64, "projection": True},
  "34": {"blocks": (3, 4, 6, 3), "width": 64, "projection": True},
  "50": {"blocks": (3, 4, 6, 3), "width": 64, "projection": True, "bottleneck": True},
}
