"""IRE before the base optimizer: a larger effect of SAM along flat coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._flat_mask import FlatMask, flat_mask
from flatopt._typing import AxisName, ScalarOrSchedule


class IreDriftState(NamedTuple):
  """The number of calls of ``update``, and the mask of flat coordinates."""

  count: jax.Array
  mask: FlatMask

  method = "ire_drift"

  @property
  def extra_gradients(self):
    return self.count  # one per call; the estimator's state counts its own

  @property
  def flat(self):
    return self.mask.flat

  def metrics(self):
    return {"count": self.count, **self.mask.metrics()}


def ire_drift(
  rho: ScalarOrSchedule = 0.05,
  kappa: ScalarOrSchedule = 2.0,
  flat_fraction: ScalarOrSchedule = 0.8,
  *,
  curvature: optax.GradientTransformation | None = None,
  update_interval: int = 10,
  start_step: int = 0,
  decay: float = 0.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM's gradient, in which SAM's change is larger along flat coordinates.

      every update_interval steps from start_step:
        h <- decay * h + (1 - decay) * |diagonal of the Hessian at w|
        flat = 1 where h is among its floor(size * flat_fraction) smallest entries, else 0
      d = grad_fn(w + rho * g / ||g||) - g
      output: g + d + kappa * flat * d

  ``d`` is the change that SAM makes to the gradient. It lets training drift to flatter places,
  and this method makes that drift faster. Prefer it to ``ire_update`` if the base optimizer is
  adaptive and you pay for SAM's gradient anyway. It works before Adam, where a fixed scaling of
  the gradient has no effect because Adam divides it out again: the scale of Adam's second
  moment comes from the noise of the gradient, not from ``d``. With SGD it equals SAM followed
  by ``ire_update``, to first order and on the manifold of minima. Cost: one extra gradient per
  step, plus those of the curvature estimator (2 with the default) every ``update_interval``
  steps.

  Args:
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0; a number, a
      scalar array or a schedule.
    kappa: extra weight of ``d`` on flat coordinates, >= 0; 0 is SAM.
    flat_fraction: share of all coordinates to treat as flat, in [0, 1].
    curvature: transformation whose ``update`` returns estimates of the Hessian's diagonal;
      ``None``: ``flatopt.curvature.hutchinson(key=key)``.
    update_interval: number of steps between two estimates of the curvature, >= 1.
    start_step: first step with an estimate, >= 0. Before it the output is SAM's gradient.
    decay: decay rate of the running average of the curvature, in [0, 1). The average has no bias
      correction; 0 means no average.
    key: int or JAX key for the random draws of the default estimator.
    axis_name: mapped axis under ``pmap`` or ``shard_map``; estimates and output are averaged
      over it.
    sync_perturbation: if True, perturb by the gradient averaged over ``axis_name``; if False,
      by each device's own gradient (m-sharpness).

  Returns:
    A transformation whose ``update`` needs ``params``, ``grad_fn(params) -> grads`` and
    the closures that ``curvature`` needs.

  State:
    count: int32, shape (). mask: as in ``ire_update``, 1 byte per parameter, and with
    ``decay > 0`` 4 more.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type, or a closure or
      ``params`` is missing.

  Source:
    This method is flatopt's own. It follows from the analysis of Wang, Wang, et al. 2024, arXiv
    2405.20763, but the paper changes only the base optimizer's update (``ire_update``), never
    the gradient. The documentation's page on IRE has measurements.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.ire_drift(rho=0.05, kappa=2.0), optax.adamw(1e-3))
  """
  _arguments.check_number("ire_drift", "rho", rho, low=0)
  _arguments.check_number("ire_drift", "kappa", kappa, low=0)
  _arguments.check_axis("ire_drift", axis_name, sync_perturbation)
  init_mask, refresh = flat_mask(
    "ire_drift", flat_fraction, curvature, update_interval, start_step, decay, key, axis_name
  )

  def init(params):
    return IreDriftState(count=jnp.zeros((), jnp.int32), mask=init_mask(params))

  def update(updates, state, params, step, extra_args):
    mask = refresh(state.mask, state.count, step, updates, params, extra_args)
    sharp = _perturbation.sharpness_gradient(
      "ire_drift",
      extra_args["grad_fn"],
      params,
      updates,
      _arguments.value_at(rho, step),
      axis_name=axis_name,
      sync_perturbation=sync_perturbation,
    )

    def enhance(kappa, g_s, g, flat):
      return jnp.where(flat, g_s + kappa * (g_s - g), g_s)

    kappa_t = _arguments.value_at(kappa, step)
    output = _tree.map_wide(enhance, (kappa_t,), sharp, updates, mask.flat)
    return _devices.mean(output, axis_name), IreDriftState(_tree.increment(state.count), mask)

  return _method.transformation(
    "ire_drift",
    IreDriftState,
    init,
    update,
    place="before",
    closures=("grad_fn",),
    axis_name=axis_name,
  )
