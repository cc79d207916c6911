"""Momentum-SAM: SAM that perturbs along the base optimizer's last update, at no extra cost."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation
from flatopt._typing import Params, ScalarOrSchedule, ShardAxes
from flatopt.opt_state import map_kept


class MomentumSamState(NamedTuple):
  """The number of calls of ``update``, the last perturbation, the base optimizer's state."""

  count: jax.Array
  perturbation: Params
  base: optax.OptState

  method = "momentum_sam"
  extra_gradients = 0
  metrics = _method.reported("count")

  def eval_params(self, params):
    return map_kept(lambda eps, w: w - eps, self.perturbation, params)


def momentum_sam(
  base_optimizer: optax.GradientTransformation,
  *,
  rho: ScalarOrSchedule = 0.3,
  shard_axes: ShardAxes = None,
) -> optax.GradientTransformationExtraArgs:
  """Trains on params perturbed along the base optimizer's last update.

      w = params - eps                eps starts at 0 and is kept in the state
      u = base(g, params)             g is taken at params, which are perturbed
      eps <- rho * u / ||u||
      params <- w + u + eps

  The last update, and so the momentum of the base optimizer, replaces the gradient in SAM's
  perturbation. Prefer it to ``sam`` if you cannot afford a second gradient. Evaluate at
  ``flatopt.eval_params(state, params)``, which gives ``params - eps``. Cost: no extra gradient.

  Args:
    base_optimizer: an optax transformation with momentum; it gets the extra arguments of
      ``update``, and the perturbed params as its params.
    rho: radius of the perturbation, in units of the params' l2 norm, >= 0; it may be a schedule.
    shard_axes: as in ``sam``; with ``None``, params must not vary over any axis.

  Returns:
    A transformation whose ``update`` needs ``params``. On several devices, pass averaged gradients.

  State:
    count: int32, shape (). perturbation: ``eps``, like the params. base: the base optimizer's
    state.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Becker, Altrock, Risse 2024, arXiv 2401.12033. The perturbation has the direction of the base
    optimizer's whole update, so weight decay inside the base optimizer changes it.

  Example:
    >>> import optax, flatopt
    >>> optimizer = flatopt.momentum_sam(optax.sgd(0.1, momentum=0.9), rho=0.3)
  """
  base = _arguments.as_transformation("momentum_sam", "base_optimizer", base_optimizer)
  _arguments.check_number("momentum_sam", "rho", rho, low=0)
  _arguments.check_axes("momentum_sam", None, shard_axes)

  def init(params):
    eps = optax.tree.zeros_like(params)
    return MomentumSamState(jnp.zeros((), jnp.int32), eps, base.init(params))

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree(
      "momentum_sam", "perturbation in the state", state.perturbation, params
    )
    updates, base_state = base.update(updates, state.base, params, **extra_args)
    w = optax.apply_updates(optax.tree.sub(params, state.perturbation), updates)
    axes = _devices.leaf_axes("momentum_sam", params, None, shard_axes)
    perturbed, _ = _perturbation.perturb(w, updates, _arguments.value_at(rho, step), axes=axes)
    output = optax.tree.sub(perturbed, params)
    # The perturbation as rounding leaves it, so that the next update finds this w again.
    eps = optax.tree.sub(optax.apply_updates(params, output), w)
    return output, state._replace(perturbation=eps, base=base_state)

  return _method.transformation(MomentumSamState, init, update, place="around")
