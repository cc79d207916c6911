"""Small models, of matrix products only.

XLA:CPU runs a convolution's gradient about 14 times slower inside lax.cond and lax.while_loop,
where half of the methods compute theirs.
"""

import flax.linen as nn
import jax.numpy as jnp


class Mlp(nn.Module):
  hidden: int

  @nn.compact
  def __call__(self, x):
    return nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(self.hidden)(x)))


class Mixer(nn.Module):
  """MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601): B images -> logits_BxK.

  N tokens of D features; each block mixes over tokens, then over features.
  """

  patch: int
  width: int
  blocks: int
  classes: int = 10

  @nn.compact
  def __call__(self, images_BxHxW):
    b, h, w = images_BxHxW.shape
    p = self.patch
    patches_BxNxP = (
      images_BxHxW.reshape(b, h // p, p, w // p, p).transpose(0, 1, 3, 2, 4).reshape(b, -1, p * p)
    )
    x_BxNxD = nn.Dense(self.width)(patches_BxNxP)
    for _ in range(self.blocks):
      y_BxDxN = nn.LayerNorm()(x_BxNxD).swapaxes(1, 2)
      x_BxNxD += Mlp(2 * y_BxDxN.shape[-1])(y_BxDxN).swapaxes(1, 2)
      x_BxNxD += Mlp(2 * self.width)(nn.LayerNorm()(x_BxNxD))
    return nn.Dense(self.classes)(jnp.mean(nn.LayerNorm()(x_BxNxD), axis=1))
