"""IRE after the base, alone and with SAM, and its form before the base."""

import dataclasses

import optax

import flatopt
from experiments.config import Method
from experiments.methods.registry import register_method


@register_method("ire", place="after the base")
@dataclasses.dataclass(frozen=True)
class Ire(Method):
  kappa: float = 2.0
  flat_fraction: float = 0.8
  update_interval: int = 10
  start: float = 0.5  # share of the run; before it, a step's cost is fixed
  search = ("kappa",)

  def enhance(self, steps, key, **options):
    return flatopt.ire(
      self.kappa,
      flat_fraction=self.flat_fraction,
      update_interval=self.update_interval,
      start_step=round(self.start * steps),
      curvature=flatopt.curvature.gauss_newton_bartlett(key=key),
      **options,
    )

  def wrap(self, base, steps, key):
    return optax.chain(base, self.enhance(steps, key))


@register_method("sam_ire", place="after the base", aliases=("sam+ire",))
@dataclasses.dataclass(frozen=True)
class SamIre(Ire):
  rho: float = 0.05
  search = ("kappa", "rho")
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.sam(self.rho), base, self.enhance(steps, key))


@register_method("ire_rho", place="before the base", aliases=("ire(rho)",))
@dataclasses.dataclass(frozen=True)
class IreRho(Ire):
  rho: float = 0.05
  search = ("kappa", "rho")
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(self.enhance(steps, key, rho=self.rho), base)
