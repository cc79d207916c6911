"""IRE before the base optimizer: enhances the drift that sharpness-awareness adds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._flat_mask import FlatMask, flat_mask
from flatopt._typing import AxisName, ScalarOrSchedule


class IreDriftState(NamedTuple):
  """Count of update calls, each one extra gradient, and the mask of flat coordinates."""

  count: jax.Array
  mask: FlatMask

  method = "ire_drift"

  @property
  def extra_gradients(self):
    return self.count

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
  """SAM's gradient, its change of the gradient enhanced along flat coordinates.

      d = grad_fn(w + rho * g / ||g||) - g
      output: g + d + kappa * flat * d         flat as in ``ire_update``

  An adaptive base optimizer divides any fixed scaling of its gradient's coordinates out
  again. The drift ``d`` is not divided out, because gradient noise, not drift, sets the
  scale of Adam's second moment; so this form works in front of Adam, where scaling the
  gradient would do nothing. With SGD it equals SAM followed by ``ire_update`` to first
  order on the manifold of minima. Cost: 1 extra gradient a step, and the estimator's
  per refresh.

  Args:
    rho: radius of the perturbation, in units of the params' l2 norm, >= 0.
    kappa: enhancement, in units of the drift, >= 0; 0 is SAM.
    flat_fraction: share of all coordinates called flat, in [0, 1].
    curvature: as in ``ire_update``.
    update_interval: steps between refreshes, >= 1.
    start_step: first step that refreshes and enhances, >= 0; SAM's gradient before.
    decay: of the curvature's running average (no bias correction), in [0, 1).
    key: int or JAX key of the default estimator's draws.
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average the output over.
    sync_perturbation: perturb by the gradient averaged over ``axis_name`` instead of
      each device's own (m-sharpness, the default).

  Returns:
    A transformation whose ``update`` needs ``params``, ``grad_fn(params) -> grads`` and
    the closures of ``curvature``.

  State:
    As ``ire_update``'s: 1 byte a parameter, and the average where ``decay > 0``.

  Raises:
    ValueError, TypeError: a bad argument, a missing closure or ``params``.

  Source:
    flatopt's own, after the analysis of Wang, Wang, et al. 2024, arXiv 2405.20763; the
    paper enhances the base optimizer's update (``ire_update``), never the gradient.
    docs/methods/ire.md holds what was measured.

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

    def enhance(kappa, s, g, flat):
      return jnp.where(flat, s + kappa * (s - g), s)

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
