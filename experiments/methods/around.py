"""Methods around the base: how often, and from where, the base optimizer steps."""

import dataclasses
from typing import Literal

import flatopt
from experiments.config import Method
from experiments.methods.registry import register_method


@register_method("lookahead", place="around the base")
@dataclasses.dataclass(frozen=True)
class Lookahead(Method):
  sync_period: int = 5
  slow_step_size: float = 0.5
  slow_momentum: float = 0.0

  def wrap(self, base, steps, key):
    return flatopt.lookahead(
      base,
      sync_period=self.sync_period,
      slow_step_size=self.slow_step_size,
      slow_momentum=self.slow_momentum,
    )


@register_method("weight_average", place="around the base")
@dataclasses.dataclass(frozen=True)
class WeightAverage(Method):
  start: float = 0.75  # share of the run before the first params that are averaged
  decay: float | None = None  # of an exponential average; None is the plain mean

  def wrap(self, base, steps, key):
    return flatopt.weight_average(base, decay=self.decay, start_step=round(self.start * steps))


@register_method("sala", place="around the base")
@dataclasses.dataclass(frozen=True)
class Sala(Method):
  sync_period: int = 5
  slow_step_size: float = 0.8
  rho: float = 0.05
  search = ("rho",)

  @property
  def gradients(self):
    """The most that it costs, in its second stage; training decides how long the first lasts."""
    return 1 + 1 / self.sync_period

  def wrap(self, base, steps, key):
    return flatopt.sala(
      base, sync_period=self.sync_period, slow_step_size=self.slow_step_size, rho=self.rho
    )


@register_method("lookbehind", place="around the base")
@dataclasses.dataclass(frozen=True)
class Lookbehind(Method):
  ascent_steps: int = 2
  rho: float = 0.05
  interpolation: float | Literal["adaptive"] = "adaptive"
  eta: float | None = None  # of ASAM's perturbation; None is SAM's
  search = ("rho",)

  @property
  def gradients(self):
    return 1.0 + self.ascent_steps

  def wrap(self, base, steps, key):
    return flatopt.lookbehind(
      base,
      ascent_steps=self.ascent_steps,
      rho=self.rho,
      interpolation=self.interpolation,
      eta=self.eta,
    )


@register_method("momentum_sam", place="around the base")
@dataclasses.dataclass(frozen=True)
class MomentumSam(Method):
  rho: float = 0.3
  search = ("rho",)

  def wrap(self, base, steps, key):
    return flatopt.momentum_sam(base, rho=self.rho)
