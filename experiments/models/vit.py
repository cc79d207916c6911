"""Vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

kernel_init = nn.initializers.truncated_normal(0.02)

# Touvron et al. 2021 (arXiv 2012.12877).
VIT_SHAPES = {
  "ti": {"width": 192, "layers": 12, "heads": 3},
  "s": {"width": 384, "layers": 12, "heads": 6},
}


class EncoderBlock(nn.Module):
  heads: int
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x_BxNxD, *, train: bool):
    width = x_BxNxD.shape[-1]
    dropout = nn.Dropout(self.dropout, deterministic=not train)
    y_BxNxD = nn.LayerNorm(dtype=self.dtype)(x_BxNxD)
    y_BxNxD = nn.MultiHeadDotProductAttention(
      self.heads,
      dtype=self.dtype,
      kernel_init=kernel_init,
      dropout_rate=self.dropout,
      deterministic=not train,
      force_fp32_for_softmax=True,
    )(y_BxNxD)
    x_BxNxD += dropout(y_BxNxD)
    y_BxNxD = nn.LayerNorm(dtype=self.dtype)(x_BxNxD)
    h_BxNxF = nn.Dense(4 * width, dtype=self.dtype, kernel_init=kernel_init)(y_BxNxD)
    h_BxNxF = dropout(nn.gelu(h_BxNxF, approximate=False))
    y_BxNxD = nn.Dense(width, dtype=self.dtype, kernel_init=kernel_init)(h_BxNxF)
    return x_BxNxD + dropout(y_BxNxD)


class VisionTransformer(nn.Module):
  """ViT with a class token and learned positions: images_BxHxWxC -> logits_BxK.

  The patch divides both sides: 4 for CIFAR's 32x32, 16 for ImageNet's 224x224.
  """

  patch: int
  width: int
  layers: int
  heads: int
  dropout: float = 0.0
  classes: int = 10
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images_BxHxWxC, *, train: bool):
    b, h, w, c = images_BxHxWxC.shape
    p = self.patch
    if h % p or w % p:
      raise ValueError(f"VisionTransformer: patch must divide the image's {h}x{w}; got {p}")
    # A convolution with stride p, as a matrix product: faster on CPUs, and the same parameters.
    patches_BxNxP = (
      images_BxHxWxC.reshape(b, h // p, p, w // p, p, c)
      .transpose(0, 1, 3, 2, 4, 5)
      .reshape(b, -1, p * p * c)
    )
    x_BxNxD = nn.Dense(self.width, dtype=self.dtype, kernel_init=kernel_init)(patches_BxNxP)
    token_1x1xD = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
    token_Bx1xD = jnp.broadcast_to(token_1x1xD, (b, 1, self.width)).astype(self.dtype)
    x_BxNxD = jnp.concatenate([token_Bx1xD, x_BxNxD], axis=1)
    positions_1xNxD = self.param("positions", kernel_init, (1, *x_BxNxD.shape[1:]))
    x_BxNxD += positions_1xNxD.astype(self.dtype)
    x_BxNxD = nn.Dropout(self.dropout, deterministic=not train)(x_BxNxD)
    for _ in range(self.layers):
      x_BxNxD = EncoderBlock(self.heads, self.dropout, self.dtype)(x_BxNxD, train=train)
    features_BxD = nn.LayerNorm(dtype=self.dtype)(x_BxNxD)[:, 0].astype(jnp.float32)
    return nn.Dense(self.classes, kernel_init=kernel_init)(features_BxD)
