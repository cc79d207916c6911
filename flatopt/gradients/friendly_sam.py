"""Friendly-SAM: perturbs along the batch's noise, not along the full gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Params, ScalarOrSchedule


class FriendlySamState(NamedTuple):
  """Count of update calls, each one extra gradient, and the gradients' running average."""

  count: jax.Array
  average: Params

  method = "friendly_sam"

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


def friendly_sam(
  rho: ScalarOrSchedule = 0.05,
  *,
  sigma: ScalarOrSchedule = 1.0,
  decay: float = 0.9,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM whose perturbation leaves out what the batch's gradient shares with earlier ones.

      d = g - sigma * m                       m: running average of earlier gradients
      output: grad_fn(w + rho * d / ||d||)
      m <- decay * m + (1 - decay) * g        m <- g on the first call

  Prefer it to ``sam`` where the full-batch part of the perturbation does harm: noisy labels,
  large batches. Cost: one extra gradient a step.

  Args:
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0.
    sigma: share of the average taken out, >= 0; 0 is SAM.
    decay: of the average, in [0, 1).
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average the output and the
      running average over.
    sync_perturbation: perturb by the gradient averaged over ``axis_name`` instead of
      each device's own (m-sharpness, the default).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (). average: like params in at least float32, one copy of them.

  Raises:
    ValueError, TypeError: a bad argument, a missing ``grad_fn`` or ``params``.

  Source:
    Li, Zhou, He, Cheng, Huang 2024, arXiv 2403.12350, algorithm 1. A gradient that is not
    finite leaves as NaN and does not enter the average.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.friendly_sam(rho=0.05), optax.sgd(0.1))
  """
  _arguments.check_number("friendly_sam", "rho", rho, low=0)
  _arguments.check_number("friendly_sam", "sigma", sigma, low=0)
  _arguments.check_decay("friendly_sam", decay)
  _arguments.check_axis("friendly_sam", axis_name, sync_perturbation)

  def init(params):
    zeros = lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w))
    return FriendlySamState(jnp.zeros((), jnp.int32), jax.tree.map(zeros, params))

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("friendly_sam", "average in the state", state.average, params)
    sigma_t = (_arguments.value_at(sigma, step),)
    direction = _tree.map_wide(lambda s, g, m: g - s * m, sigma_t, updates, state.average)
    sharp = _perturbation.sharpness_gradient(
      "friendly_sam",
      extra_args["grad_fn"],
      params,
      direction,
      _arguments.value_at(rho, step),
      axis_name=axis_name,
      sync_perturbation=sync_perturbation,
    )
    grads = _devices.mean(updates, axis_name)
    finite = jnp.isfinite(_tree.norm(grads, _devices.shard_axes(params, axis_name)))
    kept = jnp.where(state.count == 0, 0, decay)
    move = lambda d, m, g: d * m + (1 - d) * g
    average = _tree.map_wide(move, (kept,), state.average, grads)
    return _devices.mean(sharp, axis_name), FriendlySamState(
      _tree.increment(state.count), _tree.where(finite, average, state.average)
    )

  return _method.transformation(
    "friendly_sam",
    FriendlySamState,
    init,
    update,
    place="before",
    closures=("grad_fn",),
    axis_name=axis_name,
  )
