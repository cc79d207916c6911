"""Base optimizers: the direction of a step before the learning rate, weight decay included."""

import dataclasses

import optax
import optax.contrib

from experiments.config import Base
from experiments.methods.registry import register_base


@register_base("sgd", learning_rate=0.05, weight_decay=5e-4)
@dataclasses.dataclass(frozen=True)
class Sgd(Base):
  momentum: float = 0.9
  nesterov: bool = False

  def direction(self, weight_decay):
    return optax.chain(
      optax.add_decayed_weights(weight_decay), optax.trace(self.momentum, self.nesterov)
    )


@register_base("adamw", learning_rate=3e-3, weight_decay=0.01)
@dataclasses.dataclass(frozen=True)
class AdamW(Base):
  b1: float = 0.9
  b2: float = 0.95

  def direction(self, weight_decay):
    return optax.chain(
      optax.scale_by_adam(self.b1, self.b2), optax.add_decayed_weights(weight_decay)
    )
