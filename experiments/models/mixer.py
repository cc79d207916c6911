"""A small MLP-Mixer, of matrix products only.

XLA:CPU runs a convolution's gradient about 14 times slower inside lax.cond and lax.while_loop,
where half of the methods compute theirs.
"""

import flax.linen as nn
import jax.numpy as jnp


class Mlp(nn.Module):
  hidden: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x):
    dense = lambda width: nn.Dense(width, dtype=self.dtype)
    return dense(x.shape[-1])(nn.gelu(dense(self.hidden)(x)))


class Mixer(nn.Module):
  """MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601): B images -> logits_BxK.

  N tokens of D features; each block mixes over tokens, then over features.
  """

  patch: int
  width: int
  blocks: int
  classes: int = 10
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images_BxHxWxC, *, train: bool):
    del train
    b, h, w, c = images_BxHxWxC.shape
    p = self.patch
    grid_BxHxPxWxPxC = images_BxHxWxC.reshape(b, h // p, p, w // p, p, c)
    patches_BxNxP = grid_BxHxPxWxPxC.swapaxes(2, 3).reshape(b, -1, p * p * c)
    norm = lambda x: nn.LayerNorm(dtype=self.dtype)(x)
    x_BxNxD = nn.Dense(self.width, dtype=self.dtype)(patches_BxNxP)
    for _ in range(self.blocks):
      y_BxDxN = norm(x_BxNxD).swapaxes(1, 2)
      x_BxNxD += Mlp(2 * y_BxDxN.shape[-1], self.dtype)(y_BxDxN).swapaxes(1, 2)
      x_BxNxD += Mlp(2 * self.width, self.dtype)(norm(x_BxNxD))
    mean_BxD = jnp.mean(norm(x_BxNxD), axis=1)
    return nn.Dense(self.classes, dtype=self.dtype)(mean_BxD).astype(jnp.float32)
