"""Friendly-SAM: SAM that perturbs along the noise of the batch only."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Params, ScalarOrSchedule, ShardAxes


class FriendlySamState(NamedTuple):
  """The number of calls of ``update``, and the running average of the gradients."""

  count: jax.Array
  average: Params

  method = "friendly_sam"
  extra_gradients = property(lambda self: self.count)  # one per call
  metrics = _method.reported("count")


def friendly_sam(
  rho: ScalarOrSchedule = 0.05,
  *,
  sigma: ScalarOrSchedule = 1.0,
  decay: float = 0.9,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM whose perturbation follows the noise of the batch, not its whole gradient.

      d = g - sigma * m                       m: running average of earlier gradients
      output: grad_fn(w + rho * d / ||d||)
      m <- decay * m + (1 - decay) * g        m <- g on the first call

  ``m`` estimates the gradient over all data, so ``g - m`` is the noise of the batch. Prefer it to
  ``sam`` if you suspect that the part of the perturbation along the full gradient does harm. Do
  not use it with full batches, which have no noise. Cost: one extra gradient per step.

  Args:
    rho: radius of the perturbation, in units of the params' l2 norm, >= 0; it may be a schedule.
    sigma: multiple of the running average to subtract, >= 0; 0 is SAM.
    decay: decay rate of the running average, in [0, 1).
    axis_name: as in ``sam``; the running average is averaged over it, too.
    shard_axes, sync_perturbation: as in ``sam``.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (). average: like params, in float32 or wider, 4 bytes per parameter.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Li, Zhou, He, Cheng, Huang 2024, arXiv 2403.12350, algorithm 1. If the gradient is not finite,
    every entry of the output is NaN, and the running average does not change.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.friendly_sam(rho=0.05), optax.sgd(0.1))
  """
  _arguments.check_number("friendly_sam", "sigma", sigma, low=0)
  _arguments.check_decay("friendly_sam", decay)
  perturbation = _perturbation.Perturbation(
    "friendly_sam", rho, axis_name, shard_axes, sync_perturbation
  )

  def init(params):
    zeros = lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w))
    return FriendlySamState(jnp.zeros((), jnp.int32), jax.tree.map(zeros, params))

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("friendly_sam", "average in the state", state.average, params)
    sigma_t = (_arguments.value_at(sigma, step),)
    direction = _tree.map_wide(lambda s, g, m: g - s * m, sigma_t, updates, state.average)
    sharp = perturbation.gradient(params, direction, step, extra_args)
    grads = _devices.mean(updates, axis_name)
    finite = jnp.isfinite(_tree.norm(grads, perturbation.axes(params)))
    decay_t = jnp.where(state.count == 0, 0, decay)
    average = _tree.map_wide(lambda d, m, g: d * m + (1 - d) * g, (decay_t,), state.average, grads)
    average = _tree.where(finite, average, state.average)
    return _devices.mean(sharp, axis_name), state._replace(average=average)

  return _method.transformation(FriendlySamState, init, update, place="before", axis_name=axis_name)
