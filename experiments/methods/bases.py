"""Base optimizers: the direction of a step with weight decay, before the learning rate."""

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
  decays = ("momentum",)

  def direction(self, weight_decay):
    return optax.chain(
      optax.add_decayed_weights(weight_decay), optax.trace(self.momentum, self.nesterov)
    )


@register_base("adamw", learning_rate=3e-3, weight_decay=0.01)
@dataclasses.dataclass(frozen=True)
class AdamW(Base):
  b1: float = 0.9
  b2: float = 0.95
  decays = "b1", "b2"

  def direction(self, weight_decay):
    return optax.chain(
      optax.scale_by_adam(self.b1, self.b2), optax.add_decayed_weights(weight_decay)
    )


@register_base("lion", learning_rate=1e-3, weight_decay=0.03)
@dataclasses.dataclass(frozen=True)
class Lion(Base):
  """Chen et al. 2023 (arXiv 2302.06675)."""

  b1: float = 0.9
  b2: float = 0.99
  decays = "b1", "b2"

  def direction(self, weight_decay):
    return optax.chain(
      optax.scale_by_lion(self.b1, self.b2), optax.add_decayed_weights(weight_decay)
    )


@register_base("muon", learning_rate=3e-3, weight_decay=0.01)
@dataclasses.dataclass(frozen=True)
class Muon(Base):
  """Muon on matrices, Adam on other params (Jordan et al. 2024; Liu et al., arXiv 2502.16982)."""

  beta: float = 0.95
  b1: float = 0.9  # of Adam
  b2: float = 0.95
  rms: float = 0.2  # of a matrix's updates: near Adam's, so that one learning rate suits both
  decays = "beta", "b1", "b2"

  def direction(self, weight_decay):
    whole = optax.contrib.muon(
      1.0,
      beta=self.beta,
      weight_decay=weight_decay,
      adam_b1=self.b1,
      adam_b2=self.b2,
      adam_weight_decay=weight_decay,
      consistent_rms=self.rms,
    )
    return optax.chain(whole, optax.scale(-1.0))


@register_base("schedule_free_adamw", learning_rate=3e-3, weight_decay=0.01)
@dataclasses.dataclass(frozen=True)
class ScheduleFreeAdamW(Base):
  """Trains on a mean of iterates and evaluates at their average (Defazio et al. 2024,
  arXiv 2405.15682); the learning rate is constant after its warm-up."""

  b1: float = 0.9  # of the mean of iterates; Adam's own momentum is off
  b2: float = 0.95
  decays = "b1", "b2"
  schedule = "constant"
  moves_freely = False

  def direction(self, weight_decay):
    return optax.chain(optax.scale_by_adam(0.0, self.b2), optax.add_decayed_weights(weight_decay))

  def around(self, scaled, rate):
    free = lambda step_size: optax.contrib.schedule_free(scaled, step_size, self.b1)

    def update(updates, state, params=None, *, paid, **extra_args):
      # Built at this step's rate, by which the average weighs its iterates.
      return free(rate(paid)).update(updates, state, params, paid=paid, **extra_args)

    return optax.GradientTransformationExtraArgs(free(0.0).init, update)
