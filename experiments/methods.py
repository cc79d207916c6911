"""Every method on one base optimizer, its hyper-parameters a dataclass."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

import flatopt
from experiments.config import Base, Method, Opt, Refusal


@dataclasses.dataclass(frozen=True)
class Plain(Method):
  def wrap(self, base, steps, key):
    return base


@dataclasses.dataclass(frozen=True)
class Lookahead(Method):
  sync_period: int = 5
  slow_step_size: float = 0.5

  def wrap(self, base, steps, key):
    return flatopt.lookahead(base, sync_period=self.sync_period, slow_step_size=self.slow_step_size)


@dataclasses.dataclass(frozen=True)
class Sam(Method):
  rho: float = 0.05
  search = ("rho",)
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.sam(self.rho), base)


@dataclasses.dataclass(frozen=True)
class Asam(Method):
  rho: float = 0.5
  search = ("rho",)
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.asam(self.rho), base)


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


@dataclasses.dataclass(frozen=True)
class GRst(Rst):
  def wrap(self, base, steps, key):
    return optax.chain(flatopt.g_rst(flatopt.sam(self.rho), self.probability, key=key), base)


@dataclasses.dataclass(frozen=True)
class Sala(Method):
  sync_period: int = 5
  slow_step_size: float = 0.8
  rho: float = 0.05
  search = ("rho",)

  @property
  def gradients(self):
    """In its second stage, and at most: how long the first lasts, training decides."""
    return 1 + 1 / self.sync_period

  def wrap(self, base, steps, key):
    return flatopt.sala(
      base, sync_period=self.sync_period, slow_step_size=self.slow_step_size, rho=self.rho
    )


@dataclasses.dataclass(frozen=True)
class Lookbehind(Method):
  ascent_steps: int = 2
  rho: float = 0.05
  interpolation: float | Literal["adaptive"] = "adaptive"
  eta: float | None = None  # a number perturbs as ASAM does
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
      self.flat_fraction,
      update_interval=self.update_interval,
      start_step=round(self.start * steps),
      curvature=flatopt.curvature.gauss_newton_bartlett(key=key),
      **options,
    )

  def wrap(self, base, steps, key):
    return optax.chain(base, self.enhance(steps, key))


@dataclasses.dataclass(frozen=True)
class SamIre(Ire):
  rho: float = 0.05
  search = ("kappa", "rho")
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.sam(self.rho), base, self.enhance(steps, key))


@dataclasses.dataclass(frozen=True)
class IreDrift(Ire):
  rho: float = 0.05
  search = ("kappa", "rho")
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(self.enhance(steps, key, rho=self.rho), base)


@dataclasses.dataclass(frozen=True)
class Gsam(Method):
  rho: float = 0.05
  alpha: float = 0.1
  search = ("rho",)
  gradients = 2.0

  def wrap(self, base, steps, key):
    return optax.chain(flatopt.gsam(self.rho, self.alpha), base)


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
    method = flatopt.looksam(self.rho, self.alpha, update_interval=self.update_interval)
    return optax.chain(method, base)


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


@dataclasses.dataclass(frozen=True)
class MomentumSam(Method):
  rho: float = 0.3
  search = ("rho",)

  def wrap(self, base, steps, key):
    return flatopt.momentum_sam(base, rho=self.rho)


# The base alone goes by the base's name.
METHODS: dict[str, type[Method]] = {
  "sgd": Plain,
  "adamw": Plain,
  "lookahead": Lookahead,
  "sam": Sam,
  "asam": Asam,
  "rst": Rst,
  "g_rst": GRst,
  "sala": Sala,
  "lookbehind": Lookbehind,
  "ire": Ire,
  "sam+ire": SamIre,
  "ire(rho)": IreDrift,
  "gsam": Gsam,
  "looksam": LookSam,
  "friendly_sam": FriendlySam,
  "momentum_sam": MomentumSam,
}


@dataclasses.dataclass(frozen=True)
class Sgd(Base):
  momentum: float = 0.9
  nesterov: bool = False
  name = "sgd"

  def direction(self, weight_decay):
    return optax.chain(
      optax.add_decayed_weights(weight_decay), optax.trace(self.momentum, self.nesterov)
    )


@dataclasses.dataclass(frozen=True)
class AdamW(Base):
  b1: float = 0.9
  b2: float = 0.95
  name = "adamw"

  def direction(self, weight_decay):
    return optax.chain(
      optax.scale_by_adam(self.b1, self.b2), optax.add_decayed_weights(weight_decay)
    )


def learning_rate(opt: Opt, paid: jax.Array) -> jax.Array:
  """At the share ``paid`` of the budget.

  A schedule over steps would have to know their number, which coins decide for RST and distances
  for SALA.
  """
  if opt.schedule == "tenths":
    shape = 0.1 ** jnp.floor(4 * paid)
  else:
    share = jnp.clip((paid - opt.warmup) / (1 - opt.warmup), 0, 1)
    shape = opt.final + (1 - opt.final) * (1 + jnp.cos(math.pi * share)) / 2
  if opt.warmup:
    shape = jnp.where(paid < opt.warmup, paid / opt.warmup, shape)
  return opt.learning_rate * shape


def scale_by_share(opt: Opt) -> optax.GradientTransformationExtraArgs:
  """Scales by minus the learning rate at ``paid``, the share of the budget already paid."""

  def update(updates, state, params=None, *, paid, **extra_args):
    del params, extra_args
    rate = learning_rate(opt, paid)
    return jax.tree.map(lambda u: -rate * u, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def make_optimizer(opt: Opt, steps: int, key: int) -> optax.GradientTransformationExtraArgs:
  """``opt`` for a run of about so many steps; ``key`` for the method's own draws."""
  clip = [] if opt.clip is None else [optax.clip_by_global_norm(opt.clip)]
  base = optax.chain(*clip, opt.base.direction(opt.weight_decay), scale_by_share(opt))
  try:
    return optax.with_extra_args_support(opt.method.wrap(base, steps, key))
  except ValueError as error:
    raise Refusal(str(error)) from error
