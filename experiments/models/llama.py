"""Llama (Touvron et al. 2023, arXiv 2302.13971): RMSNorm, rotary positions, SwiGLU, no biases."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Small ones, named by their parameters over bytes; then IRE's, over 50,304 tokens. Layers, widths,
# heads and vocabulary of the latter are those of the authors' code, whose own feed-forward is no
# Llama's: the hidden width is what gives a plain Llama the size that the paper names.
LLAMA_SHAPES = {
  "0.9M": {"layers": 4, "width": 128, "heads": 4, "hidden": 384},
  "11M": {"layers": 6, "width": 384, "heads": 6, "hidden": 1024},
  "60M": {"layers": 16, "width": 410, "heads": 10, "hidden": 410},
  "119M": {"layers": 6, "width": 768, "heads": 12, "hidden": 2048},
  "229M": {"layers": 16, "width": 768, "heads": 12, "hidden": 3072},
}


def rotary(x_BxLxNxH: jax.Array, base: float = 10_000.0) -> jax.Array:
  """Turns features i and i + H/2 by the angle ``position / base^(2 i / H)``.

  Products of two turned vectors then depend on the distance of their positions alone (Su et al.
  2021, arXiv 2104.09864). An odd head, as of 410 features in 10 heads, keeps its last feature.
  """
  pairs = x_BxLxNxH.shape[-1] // 2
  frequencies_P = base ** (-jnp.arange(pairs, dtype=jnp.float32) / pairs)
  positions_L = jnp.arange(x_BxLxNxH.shape[1], dtype=jnp.float32)
  angles_Lx1xP = positions_L[:, None, None] * frequencies_P
  cos, sin = jnp.cos(angles_Lx1xP), jnp.sin(angles_Lx1xP)
  first, second, rest = jnp.split(x_BxLxNxH.astype(jnp.float32), [pairs, 2 * pairs], axis=-1)
  turned = [first * cos - second * sin, first * sin + second * cos, rest]
  return jnp.concatenate(turned, axis=-1).astype(x_BxLxNxH.dtype)


class LlamaBlock(nn.Module):
  heads: int
  hidden: int
  layers: int  # of the whole model, for the initial scale of what enters the residual stream
  dtype: Any

  @nn.compact
  def __call__(self, x_BxLxD):
    width = x_BxLxD.shape[-1]

    def dense(features, name, scale=0.02, axis=-1):
      init = nn.initializers.normal(scale)
      return nn.DenseGeneral(
        features, axis, use_bias=False, kernel_init=init, dtype=self.dtype, name=name
      )

    out_scale = 0.02 / (2 * self.layers) ** 0.5
    y_BxLxD = nn.RMSNorm(dtype=self.dtype, name="attention_norm")(x_BxLxD)
    heads = (self.heads, width // self.heads)
    q_BxLxNxH, k_BxLxNxH, v_BxLxNxH = (dense(heads, n)(y_BxLxD) for n in ("query", "key", "value"))
    y_BxLxNxH = jax.nn.dot_product_attention(
      rotary(q_BxLxNxH), rotary(k_BxLxNxH), v_BxLxNxH, is_causal=True
    )
    x_BxLxD += dense(width, "out", out_scale, axis=(-2, -1))(y_BxLxNxH)
    y_BxLxD = nn.RMSNorm(dtype=self.dtype, name="mlp_norm")(x_BxLxD)
    h_BxLxF = nn.silu(dense(self.hidden, "gate")(y_BxLxD)) * dense(self.hidden, "up")(y_BxLxD)
    return x_BxLxD + dense(width, "down", out_scale)(h_BxLxF)


class Llama(nn.Module):
  """Causal language model: tokens_BxL -> logits_BxLxK of the token that follows each."""

  layers: int
  width: int
  heads: int
  hidden: int  # features of the feed-forward part
  tied: bool = False  # whether the embedding is also the output's matrix
  classes: int = 257  # tokens of the vocabulary
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens_BxL, *, train: bool):
    del train  # nothing in it differs
    if self.width % self.heads:
      raise ValueError(f"Llama: heads must divide the width {self.width}; got {self.heads}")
    init = nn.initializers.normal(0.02)
    embed = nn.Embed(self.classes, self.width, embedding_init=init, dtype=self.dtype)
    x_BxLxD = embed(tokens_BxL)
    for _ in range(self.layers):
      x_BxLxD = LlamaBlock(self.heads, self.hidden, self.layers, self.dtype)(x_BxLxD)
    x_BxLxD = nn.RMSNorm(dtype=self.dtype)(x_BxLxD)
    if self.tied:
      logits_BxLxK = embed.attend(x_BxLxD)
    else:
      head = nn.Dense(self.classes, use_bias=False, kernel_init=init, dtype=self.dtype)
      logits_BxLxK = head(x_BxLxD)
    return logits_BxLxK.astype(jnp.float32)
