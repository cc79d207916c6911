"""The optimizer of a run: a method on a base, at the learning rate of what is paid."""

import math

import jax
import jax.numpy as jnp
import optax

from experiments.config import Opt, Refusal


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
