"""LookSAM: SAM's gradient every few steps, and its slowly changing part again in between."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Params, ScalarOrSchedule, ShardAxes


class LooksamState(NamedTuple):
  """The number of calls of ``update``, the unit vector ``v``, and the extra gradients so far."""

  count: jax.Array
  direction: Params
  extra_gradients: jax.Array

  method = "looksam"
  metrics = _method.reported("count", "extra_gradients")


def looksam(
  rho: ScalarOrSchedule = 0.05,
  *,
  alpha: ScalarOrSchedule = 0.7,
  update_interval: int = 5,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM's gradient every ``update_interval`` calls, and an approximation of it in between.

      on the first call and every update_interval-th call after it:
        output: g_s = grad_fn(w + rho * g / ||g||)
        v = d / ||d||  with  d = g_s - <g, g_s> / ||g||^2 * g;  0 if d is 0 up to rounding
      on the calls in between:
        output: g + alpha * ||g|| * v

  ``d`` is the part of SAM's gradient that is orthogonal to the plain gradient. Its direction ``v``
  changes slowly, so it is used again. Prefer it to ``rst`` if every step has to be sharpness-aware
  and you have the memory for ``v``. Cost: ``1 / update_interval`` extra gradients per step.

  Args:
    rho: radius of the perturbation, in units of the params' l2 norm, >= 0; it may be a schedule.
    alpha: length of the added vector, in units of the gradient's norm, >= 0.
    update_interval: number of calls from one gradient of SAM to the next, >= 1; 1 is SAM.
    axis_name: as in ``sam``; ``v`` is computed from the averaged gradients.
    shard_axes, sync_perturbation: as in ``sam``.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count, extra_gradients: int32, shape (). direction: ``v``, like the params.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Liu, Mai, Chen, Hsieh, You 2022, arXiv 2203.02714, algorithm 1, with norms over all leaves
    together. If a gradient is not finite, the output is not finite, and ``v`` does not change.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.looksam(rho=0.05, update_interval=5), optax.sgd(0.1))
  """
  _arguments.check_number("looksam", "alpha", alpha, low=0)
  _arguments.check_integer("looksam", "update_interval", update_interval, minimum=1)
  perturbation = _perturbation.Perturbation(
    "looksam", rho, axis_name, shard_axes, sync_perturbation
  )

  def init(params):
    return LooksamState(
      count=jnp.zeros((), jnp.int32),
      direction=jax.tree.map(jnp.zeros_like, params),
      extra_gradients=jnp.zeros((), jnp.int32),
    )

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("looksam", "direction in the state", state.direction, params)
    axes = perturbation.axes(params)
    grads = _devices.mean(_tree.cast_like(updates, params), axis_name)
    norm = _tree.norm(grads, axes)

    def sam_gradient():
      sharp = perturbation.gradient(params, updates, step, extra_args)
      sharp = _devices.mean(sharp, axis_name)
      coefficient = _tree.projection_coefficient(sharp, grads, axes)
      orthogonal = _tree.map_wide(lambda c, g_s, g: g_s - c * g, (coefficient,), sharp, grads)
      length = _tree.norm(orthogonal, axes)
      # What is left where the two gradients are parallel is rounding: it has no direction.
      is_zero = length <= 16 * float(jnp.finfo(length.dtype).eps) * norm
      inverse = jnp.where(is_zero, 0, 1 / jnp.where(is_zero, 1, length))
      unit = _tree.map_wide(lambda n, x: n * x, (inverse,), orthogonal)
      return sharp, _tree.where(jnp.isfinite(length), unit, state.direction)

    def approximation():
      scalars = (_arguments.value_at(alpha, step), norm)
      output = _tree.map_wide(lambda a, n, g, v: g + a * n * v, scalars, grads, state.direction)
      return output, state.direction

    is_due = state.count % update_interval == 0
    output, direction = _method.cond(is_due, sam_gradient, approximation)
    extra_gradients = state.extra_gradients + is_due.astype(jnp.int32)
    return output, state._replace(direction=direction, extra_gradients=extra_gradients)

  return _method.transformation(LooksamState, init, update, place="before", axis_name=axis_name)
