"""Surrogate-gap SAM (GSAM): also lowers the gap between the perturbed loss and the loss."""

import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, ScalarOrSchedule, ShardAxes


class GsamState(_method.CountState):
  """The number of calls of ``update``."""

  method = "gsam"


def gsam(
  rho: ScalarOrSchedule = 0.05,
  *,
  alpha: ScalarOrSchedule = 0.1,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Subtracts from SAM's gradient a multiple of the plain gradient's part orthogonal to it.

      g_s = grad_fn(w + rho * g / ||g||)
      output: g_s - alpha * (g - <g, g_s> / ||g_s||^2 * g_s)

  The subtracted part is orthogonal to ``g_s``, so to first order it does not change the loss at the
  perturbed params. It raises the loss at ``w``, which makes the gap between the two losses smaller.
  Prefer it to ``sam`` if you can tune a second hyper-parameter. Cost: one extra gradient per step.

  Args:
    rho: radius of the perturbation, in units of the params' l2 norm, >= 0; it may be a schedule.
    alpha: multiple of the orthogonal part to subtract, >= 0; 0 is SAM.
    axis_name, shard_axes: as in ``sam``.
    sync_perturbation: if True, use the gradients averaged over ``axis_name`` for the perturbation
      and for the orthogonal part; if False, each device's own gradients (m-sharpness).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (), 4 bytes.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Zhuang, Gong, Yuan, et al. 2022, arXiv 2203.08065, algorithm 1. In the paper rho follows the
    learning rate; pass a schedule to get this. A gradient that is not finite makes every entry NaN.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.gsam(rho=0.05, alpha=0.1), optax.sgd(0.1))
  """
  _arguments.check_number("gsam", "alpha", alpha, low=0)
  perturbation = _perturbation.Perturbation("gsam", rho, axis_name, shard_axes, sync_perturbation)

  def init(params):
    return GsamState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    sharp, _, finite = perturbation.perturbed(params, updates, step, extra_args)
    if sync_perturbation:
      updates, sharp = _devices.mean((updates, sharp), axis_name)
    coefficient = _tree.projection_coefficient(updates, sharp, perturbation.axes(params))

    def subtract_orthogonal_part(alpha, c, g_s, g):
      return jnp.where(jnp.isfinite(c), g_s - alpha * (g - c * g_s), g_s)

    scalars = (_arguments.value_at(alpha, step), coefficient)
    output = _tree.map_wide(subtract_orthogonal_part, scalars, sharp, updates)
    output = _perturbation.nan_unless(finite, output)
    return _devices.mean(output, axis_name), state

  return _method.transformation(GsamState, init, update, place="before", axis_name=axis_name)
