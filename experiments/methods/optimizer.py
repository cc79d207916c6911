"""The optimizer of a run: a method on a base, with a learning rate that follows the budget."""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

import flatopt
from experiments.config import Opt, Refusal
from experiments.methods.registry import base_name, method_name, place_and_colours


def learning_rate(opt: Opt, paid: jax.Array) -> jax.Array:
  """The learning rate after the share ``paid`` of the budget.

  A schedule over steps would need their number, which is random with RST and depends on the data
  with SALA.
  """
  if opt.schedule == "tenths":
    shape = 0.1 ** jnp.floor(4 * paid)
  elif opt.schedule == "constant":
    shape = jnp.ones_like(paid)
  elif opt.schedule == "wsd":
    shape = 1 - (1 - opt.final) * jnp.clip((paid - 0.8) / 0.2, 0, 1)
  else:
    begin, end = opt.warmup, 1.0
    if opt.restart is not None:
      first = paid < opt.restart
      begin, end = jnp.where(first, begin, opt.restart), jnp.where(first, opt.restart, end)
    share = jnp.clip((paid - begin) / (end - begin), 0, 1)
    shape = opt.final + (1 - opt.final) * (1 + jnp.cos(math.pi * share)) / 2
  if opt.warmup:
    shape = jnp.where(paid < opt.warmup, paid / opt.warmup, shape)
  return opt.learning_rate * shape


def scale_by_rate(rate: Callable) -> optax.GradientTransformationExtraArgs:
  """Scales by minus the learning rate at ``paid``, the share of the budget already paid."""

  def update(updates, state, params=None, *, paid, **extra_args):
    del params, extra_args
    step_size = rate(paid)
    return jax.tree.map(lambda u: -step_size * u, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def tuned_values(opt: Opt) -> dict[str, dict[str, float]]:
  """What tuning varies, by the part that has it: runs that differ in it share a program."""
  shared = {name: getattr(opt, name) for name in ("learning_rate", "weight_decay")}
  return {"opt": shared, "method": {name: getattr(opt.method, name) for name in opt.method.search}}


def with_values(opt: Opt, values: dict[str, dict[str, Any]]) -> Opt:
  """``opt`` with ``tuned_values`` in it, which may be traced: their ranges are not checked."""
  method, changed = copy.copy(opt.method), copy.copy(opt)
  for part, own in (
    (method, values["method"]),
    (changed, values["opt"] | {"method": method}),
  ):
    for name, value in own.items():
      object.__setattr__(part, name, value)
  return changed


def make_optimizer(opt: Opt, steps: int, key: Any) -> optax.GradientTransformationExtraArgs:
  """The optimizer of ``opt`` for about ``steps`` steps; ``key`` seeds the method's random draws."""
  place, _ = place_and_colours(method_name(opt))
  if place == "around the base" and not opt.base.moves_freely:
    raise Refusal(
      f"{base_name(opt.base)} cannot stand inside {method_name(opt)}, which moves its params"
    )
  rate = functools.partial(learning_rate, opt)
  scaled = optax.chain(opt.base.direction(opt.weight_decay), scale_by_rate(rate))
  clip = [] if opt.clip is None else [optax.clip_by_global_norm(opt.clip)]
  base = optax.chain(*clip, opt.base.around(scaled, rate))
  try:
    return optax.with_extra_args_support(opt.method.wrap(base, steps, key))
  except ValueError as error:
    raise Refusal(str(error)) from error


def eval_params(opt_state: optax.OptState, params: Any) -> Any:
  """The params to evaluate at, for flatopt's methods and for schedule-free bases inside them."""
  is_free = lambda x: isinstance(x, optax.contrib.ScheduleFreeState)
  for state in jax.tree.leaves(opt_state, is_leaf=is_free):
    if is_free(state):
      return optax.contrib.schedule_free_eval_params(state, params)
  return flatopt.eval_params(opt_state, params)
