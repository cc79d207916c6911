"""Sharpness-aware minimisation: the gradient at the worst point nearby."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Mask, ScalarOrSchedule


class SamState(NamedTuple):
  """``count``: update calls so far, each of which paid for one extra gradient."""

  count: jax.Array

  method = "sam"

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


_OTHER_WORDS = {
  "optimizer": "chain it behind: optax.chain(flatopt.sam(rho), optimizer)",
  "base_optimizer": "chain it behind: optax.chain(flatopt.sam(rho), base_optimizer)",
  "adv_optimizer": "the ascent step is rho long: flatopt.sam(rho)",
  "sync_period": "every update is a whole step of SAM; for several ascents use flatopt.lookbehind",
  "opaque_mode": "it is always so: pass grad_fn to update",
  "reset_state": "there is no state to reset",
  "batch_axis_name": "it is called axis_name here",
  "adaptive": "that is flatopt.asam",
}


@_arguments.explain_unknown("sam", _OTHER_WORDS)
def sam(
  rho: ScalarOrSchedule = 0.05,
  *,
  mask: Mask | None = None,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Replaces the gradient by the one at the worst point within ``rho``, to first order.

      eps = rho * g / ||g||
      output: grad_fn(w + eps)

  The reference of all sharpness-aware methods, and the first to try where twice the
  gradients are affordable. Stands before the base optimizer:
  ``optax.chain(flatopt.sam(0.05), optax.sgd(0.1))``. Cost: one extra gradient a step.

  Args:
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0; a
      number, a scalar array or a schedule.
    mask: bool pytree, or a callable ``params -> bool pytree``, of the leaves to perturb,
      which alone enter the norm; ``None`` means all. The normalisation layers alone are
      SAM-ON (Mueller et al. 2023, arXiv 2306.04226).
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average the output over.
    sync_perturbation: perturb by the gradient averaged over ``axis_name`` instead of
      each device's own (m-sharpness, the default).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (): 4 bytes, whatever the params.

  Raises:
    ValueError, TypeError: a bad argument, a missing ``grad_fn`` or ``params``.

  Source:
    Foret, Kleiner, Mobahi, Neyshabur 2020, arXiv 2010.01412, equation 2 with p = 2.
    A zero gradient gives a zero perturbation; the published code adds 1e-12 to the norm.

  Example:
    >>> import jax, jax.numpy as jnp, optax, flatopt
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> optimizer = optax.chain(flatopt.sam(rho=0.1), optax.sgd(0.01))
    >>> w = jnp.array([1.0])
    >>> state = optimizer.init(w)
    >>> updates, state = optimizer.update(grad_fn(w), state, w, grad_fn=grad_fn)
    >>> print(round(float(updates[0]), 5))  # -0.01 * 4 * 1.1**3
    -0.05324
  """
  _arguments.check_number("sam", "rho", rho, low=0)
  _arguments.check_axis("sam", axis_name, sync_perturbation)

  def init(params):
    return SamState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    sharp = _perturbation.sharpness_gradient(
      "sam",
      extra_args["grad_fn"],
      params,
      updates,
      _arguments.value_at(rho, step),
      mask=mask,
      axis_name=axis_name,
      sync_perturbation=sync_perturbation,
    )
    return _devices.mean(sharp, axis_name), SamState(_tree.increment(state.count))

  return _method.transformation(
    "sam", SamState, init, update, place="before", closures=("grad_fn",), axis_name=axis_name
  )
