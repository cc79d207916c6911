"""Methods before the base: they change the gradient, by looking at the loss elsewhere."""

import dataclasses
from typing import Literal

import optax

import flatopt
from experiments.config import Method
from experiments.methods.registry import register_method


@register_method("sam", place="before the base")
@dataclasses.dataclass(frozen=True)
class Sam(Method):
  rho: float = 0.05
  search = ("rho",)
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.sam(self.rho), base)


@register_method("functional_sam", place="before the base")
@dataclasses.dataclass(frozen=True)
class FunctionalSam(Sam):
  """SAM whose perturbed gradients keep the derivative by the logits of the clean pass."""

  ascent: Literal["adam"] | None = None  # preconditioner of the perturbation
  closure = "functional"

  def wrap(self, base, steps, key):
    ascent = None if self.ascent is None else optax.scale_by_adam()
    return optax.chain(flatopt.sam(self.rho, ascent=ascent), base)


@register_method("partial_sam", place="before the base")
@dataclasses.dataclass(frozen=True)
class PartialSam(Sam):
  """SAM that perturbs along the gradient of a part of the batch, and steps on the whole batch."""

  share: float = 0.25

  def __post_init__(self):
    super().__post_init__()
    if not 0 < self.share <= 1:
      raise ValueError(f"opt.share must be in (0, 1]; got {self.share}")

  @property
  def first_share(self):
    return self.share

  @property
  def gradients(self):
    return 1 + self.share


@register_method("asam", place="before the base")
@dataclasses.dataclass(frozen=True)
class Asam(Method):
  rho: float = 0.5
  search = ("rho",)
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.asam(self.rho), base)


@register_method("rst", place="before the base")
@dataclasses.dataclass(frozen=True)
class Rst(Method):
  rho: float = 0.05
  probability: float = 0.5
  search = ("rho",)

  @property
  def gradients(self):
    return 1 + self.probability

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.rst(flatopt.sam(self.rho), self.probability, key=key), base)


@register_method("g_rst", place="before the base")
@dataclasses.dataclass(frozen=True)
class GRst(Rst):
  def wrap(self, base, steps, key):
    return optax.chain(flatopt.g_rst(flatopt.sam(self.rho), self.probability, key=key), base)


@register_method("late_sam", place="before the base")
@dataclasses.dataclass(frozen=True)
class LateSam(Sam):
  start: float = 0.75  # share of the run before the first sharpness-aware step

  @property
  def gradients(self):
    return 2 - self.start

  def wrap(self, base, steps, key):
    late = flatopt.schedules.from_step(round(self.start * steps))
    return optax.chain(flatopt.rst(flatopt.sam(self.rho), late), base)


@register_method("periodic_sam", place="before the base")
@dataclasses.dataclass(frozen=True)
class PeriodicSam(Sam):
  interval: int = 10  # steps from one sharpness-aware step to the next

  @property
  def gradients(self):
    return 1 + 1 / self.interval

  def wrap(self, base, steps, key):
    due = flatopt.schedules.every(self.interval)
    return optax.chain(flatopt.rst(flatopt.sam(self.rho), due), base)


@register_method("ae_sam", place="before the base")
@dataclasses.dataclass(frozen=True)
class AeSam(Sam):
  """Costs as much as SAM at most: gradients' norms decide how often it pays."""

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.ae_sam(flatopt.sam(self.rho), num_steps=steps), base)


@register_method("gsam", place="before the base")
@dataclasses.dataclass(frozen=True)
class Gsam(Method):
  rho: float = 0.05
  alpha: float = 0.1
  search = ("rho",)
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.gsam(self.rho, alpha=self.alpha), base)


@register_method("looksam", place="before the base")
@dataclasses.dataclass(frozen=True)
class LookSam(Method):
  rho: float = 0.05
  alpha: float = 0.7
  update_interval: int = 5
  search = ("rho",)

  @property
  def gradients(self):
    return 1 + 1 / self.update_interval

  def wrap(self, base, steps, key):
    method = flatopt.looksam(self.rho, alpha=self.alpha, update_interval=self.update_interval)
    return optax.chain(method, base)


@register_method("friendly_sam", place="before the base")
@dataclasses.dataclass(frozen=True)
class FriendlySam(Method):
  rho: float = 0.05
  sigma: float = 1.0
  decay: float = 0.9
  search = ("rho",)
  gradients = 2.0

  def wrap(self, base, steps, key):
    method = flatopt.friendly_sam(self.rho, sigma=self.sigma, decay=self.decay)
    return optax.chain(method, base)
