"""Surrogate-gap SAM: also shrinks the gap between the perturbed loss and the loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, ScalarOrSchedule


class GsamState(NamedTuple):
  """``count``: update calls so far, each of which paid for one extra gradient."""

  count: jax.Array

  method = "gsam"

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


def gsam(
  rho: ScalarOrSchedule = 0.05,
  alpha: ScalarOrSchedule = 0.1,
  *,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM's gradient, less a part of the loss gradient orthogonal to it.

      g_s = grad_fn(w + rho * g / ||g||)
      output: g_s - alpha * (g - <g, g_s> / ||g_s||^2 * g_s)

  The second term ascends the loss where that costs the perturbed loss nothing, and so
  lowers the surrogate gap between the two. Prefer it to ``sam`` where a second number can
  be tuned. Cost: one extra gradient a step.

  Args:
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0.
    alpha: weight of the orthogonal part, in units of the gradient, >= 0; 0 is SAM.
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average the output over.
    sync_perturbation: perturb by, and decompose, the gradients averaged over
      ``axis_name`` instead of each device's own (m-sharpness, the default).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (): 4 bytes, whatever the params.

  Raises:
    ValueError, TypeError: a bad argument, a missing ``grad_fn`` or ``params``.

  Source:
    Zhuang, Gong, Yuan, et al. 2022, arXiv 2203.08065, algorithm 1. The paper lets rho
    follow the learning rate: pass a schedule.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.gsam(rho=0.05, alpha=0.1), optax.sgd(0.1))
  """
  _arguments.check_number("gsam", "rho", rho, low=0)
  _arguments.check_number("gsam", "alpha", alpha, low=0)
  _arguments.check_axis("gsam", axis_name, sync_perturbation)

  def init(params):
    return GsamState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    sharp, _, finite = _perturbation.gradient_nearby(
      "gsam",
      extra_args["grad_fn"],
      params,
      updates,
      _arguments.value_at(rho, step),
      axis_name=axis_name,
      sync_perturbation=sync_perturbation,
    )
    if sync_perturbation:
      updates, sharp = _devices.mean((updates, sharp), axis_name)
    axes = _devices.shard_axes(params, axis_name)
    along = _tree.projection_coefficient(updates, sharp, axes)

    def decompose(alpha, along, s, g):
      return jnp.where(jnp.isfinite(along), s - alpha * (g - along * s), s)

    scalars = (_arguments.value_at(alpha, step), along)
    output = _perturbation.nan_unless(finite, _tree.map_wide(decompose, scalars, sharp, updates))
    return _devices.mean(output, axis_name), GsamState(_tree.increment(state.count))

  return _method.transformation(
    "gsam", GsamState, init, update, place="before", closures=("grad_fn",), axis_name=axis_name
  )
