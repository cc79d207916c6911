"""Training with noisy weights: a step's one gradient is taken at w (1 + scale N(0, 1)).

The rival of a method that is to stand such noise. ``--import weight_noise`` adds it as a method.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from experiments.config import Method
from experiments.methods.registry import register_method


def gradient_at_noisy_weights(scale, key) -> optax.GradientTransformationExtraArgs:
  """Replaces the gradient, which the compiler then leaves out: a step pays one."""

  def init(params):
    del params
    return jnp.zeros((), jnp.int32)

  def update(updates, step, params, *, grad_fn, **extra_args):
    del updates, extra_args
    noise = optax.tree.random_like(jax.random.fold_in(jax.random.key(key), step), params)
    noisy = jax.tree.map(lambda w, n: w * (1 + scale * n), params, noise)
    return grad_fn(noisy), step + 1

  return optax.GradientTransformationExtraArgs(init, update)


@register_method("weight_noise", place="before the base")
@dataclasses.dataclass(frozen=True)
class WeightNoise(Method):
  scale: float = 0.2  # of the noise, relative to each weight
  search = ("scale",)

  def wrap(self, base, steps, key):
    return optax.chain(gradient_at_noisy_weights(self.scale, key), base)
