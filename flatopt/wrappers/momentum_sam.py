"""Momentum-SAM: perturbs along the base optimizer's last update, for no gradient at all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _perturbation, _tree
from flatopt._typing import Params, ScalarOrSchedule


class MomentumSamState(NamedTuple):
  """Count of update calls, the params without perturbation, the base optimizer's state."""

  count: jax.Array
  unperturbed: Params
  base: optax.OptState

  method = "momentum_sam"
  extra_gradients = 0

  @property
  def eval_params(self):
    return self.unperturbed

  def metrics(self):
    return {"count": self.count}


def momentum_sam(
  base_optimizer: optax.GradientTransformation, *, rho: ScalarOrSchedule = 0.3
) -> optax.GradientTransformationExtraArgs:
  """Trains on params perturbed along the base optimizer's last update.

      u = base(g, params)        g: taken at the perturbed params
      w <- w + u                 w: kept in the state
      params = w + rho * u / ||u||

  The momentum of the base stands in for SAM's gradient. Prefer it where a second gradient
  is out of reach; evaluate at ``flatopt.eval_params(state, params)``. Cost: no extra
  gradient.

  Args:
    base_optimizer: any optax transformation, with momentum to be of use; it sees the
      perturbed params as its params. Extra arguments are handed on to it.
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0.

  Returns:
    A transformation whose ``update`` needs ``params``. On several devices it takes
    averaged updates.

  State:
    count: int32, shape (). unperturbed: a copy of params. base: the base's state.

  Raises:
    ValueError, TypeError: a bad argument or ``params=None``.

  Source:
    Becker, Altrock, Risse 2024, arXiv 2401.12033. The radius is that of the update's
    direction, learning rate and weight decay included, as it leaves ``base_optimizer``.

  Example:
    >>> import optax, flatopt
    >>> optimizer = flatopt.momentum_sam(optax.sgd(0.1, momentum=0.9), rho=0.3)
  """
  _arguments.check_transformation("momentum_sam", "base_optimizer", base_optimizer)
  _arguments.check_number("momentum_sam", "rho", rho, low=0)
  base = _method.base(base_optimizer)

  def init(params):
    return MomentumSamState(jnp.zeros((), jnp.int32), _tree.copy(params), base.init(params))

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("momentum_sam", "the params in the state", state.unperturbed, params)
    updates, base_state = base.update(updates, state.base, params, **extra_args)
    unperturbed = optax.apply_updates(state.unperturbed, updates)
    perturbed, _ = _perturbation.perturb(unperturbed, updates, _arguments.value_at(rho, step))
    return optax.tree.sub(perturbed, params), MomentumSamState(
      _tree.increment(state.count), unperturbed, base_state
    )

  return _method.transformation("momentum_sam", MomentumSamState, init, update, place="around")
