"""LookSAM: reuses the part of SAM's gradient that changes slowly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Params, ScalarOrSchedule


class LooksamState(NamedTuple):
  """Count of update calls, the unit vector kept between SAM's steps, and the cost."""

  count: jax.Array
  direction: Params
  extra_gradients: jax.Array

  method = "looksam"

  def metrics(self):
    return {"count": self.count, "extra_gradients": self.extra_gradients}


def looksam(
  rho: ScalarOrSchedule = 0.05,
  alpha: ScalarOrSchedule = 0.7,
  *,
  update_interval: int = 5,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM's gradient every ``update_interval`` calls, and an imitation of it in between.

      every update_interval-th call, from the first:
        output: g_s = grad_fn(w + rho * g / ||g||)
        v = the unit vector along g_s - <g, g_s> / ||g||^2 * g
      else:
        output: g + alpha * ||g|| * v

  Norms are over all leaves. Prefer it to ``rst`` where a copy of the params in memory is
  cheaper than variance. Cost: ``1 / update_interval`` extra gradients a step.

  Args:
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0.
    alpha: weight of the direction kept, in units of the gradient's norm, >= 0.
    update_interval: calls from one gradient of SAM to the next, >= 1; 1 is SAM.
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average gradients over; the
      direction kept is that of the averages.
    sync_perturbation: perturb by the gradient averaged over ``axis_name`` instead of
      each device's own (m-sharpness, the default).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count, extra_gradients: int32, shape (). direction: like params, one copy of them.

  Raises:
    ValueError, TypeError: a bad argument, a missing ``grad_fn`` or ``params``.

  Source:
    Liu, Mai, Chen, Hsieh, You 2022, arXiv 2203.02714, algorithm 1. A gradient that is not
    finite leaves as one and does not change the direction.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.looksam(rho=0.05, update_interval=5), optax.sgd(0.1))
  """
  _arguments.check_number("looksam", "rho", rho, low=0)
  _arguments.check_number("looksam", "alpha", alpha, low=0)
  _arguments.check_integer("looksam", "update_interval", update_interval, minimum=1)
  _arguments.check_axis("looksam", axis_name, sync_perturbation)

  def init(params):
    return LooksamState(
      count=jnp.zeros((), jnp.int32),
      direction=jax.tree.map(jnp.zeros_like, params),
      extra_gradients=jnp.zeros((), jnp.int32),
    )

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("looksam", "direction in the state", state.direction, params)
    grads = _devices.mean(_tree.cast_like(updates, params), axis_name)
    axes = _devices.shard_axes(params, axis_name)
    norm = _tree.norm(grads, axes)

    def look():
      sharp = _perturbation.sharpness_gradient(
        "looksam",
        extra_args["grad_fn"],
        params,
        updates,
        _arguments.value_at(rho, step),
        axis_name=axis_name,
        sync_perturbation=sync_perturbation,
      )
      sharp = _devices.mean(sharp, axis_name)
      along = _tree.projection_coefficient(sharp, grads, axes)
      orthogonal = _tree.map_wide(lambda c, s, g: s - c * g, (along,), sharp, grads)
      length = _tree.norm(orthogonal, axes)
      unit = _tree.map_wide(lambda n, x: x / n, (jnp.where(length > 0, length, 1),), orthogonal)
      return sharp, _tree.where(jnp.isfinite(length), unit, state.direction)

    def reuse():
      scalars = (_arguments.value_at(alpha, step), norm)
      imitation = _tree.map_wide(lambda a, n, g, v: g + a * n * v, scalars, grads, state.direction)
      return _tree.where(jnp.isfinite(norm), imitation, grads), state.direction

    due = state.count % update_interval == 0
    output, direction = _method.cond(due, look, reuse)
    return output, LooksamState(
      count=_tree.increment(state.count),
      direction=direction,
      extra_gradients=state.extra_gradients + due.astype(jnp.int32),
    )

  return _method.transformation(
    "looksam",
    LooksamState,
    init,
    update,
    place="before",
    closures=("grad_fn",),
    axis_name=axis_name,
  )
