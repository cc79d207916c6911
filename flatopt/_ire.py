"""One name for both forms of IRE: with ``rho`` before the base optimizer, without it after."""

from typing import Any

import jax
import optax

from flatopt._typing import AxisName, ScalarOrSchedule
from flatopt.gradients.ire_drift import ire_drift
from flatopt.updates.ire_update import ire_update


def ire(
  kappa: ScalarOrSchedule = 2.0,
  flat_fraction: ScalarOrSchedule = 0.8,
  *,
  rho: ScalarOrSchedule | None = None,
  curvature: optax.GradientTransformation | None = None,
  update_interval: int = 10,
  start_step: int = 0,
  decay: float = 0.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Implicit regularisation enhancement (IRE), in one of its two forms.

      ire()          is ire_update; put it after the base optimizer
      ire(rho=...)   is ire_drift; put it before the base optimizer

  Both make training move faster along flat coordinates. Cost: that of ``ire_update`` or of
  ``ire_drift``.

  Args:
    kappa: extra weight on flat coordinates, >= 0; a number, a scalar array or a schedule.
    flat_fraction: share of all coordinates to treat as flat, in [0, 1].
    rho: radius of SAM's perturbation in ``ire_drift``, in units of the params' global l2 norm,
      >= 0. ``None``: the form is ``ire_update``.
    curvature: transformation whose ``update`` returns estimates of the Hessian's diagonal;
      ``None``: ``flatopt.curvature.hutchinson(key=key)``.
    update_interval: number of steps between two estimates of the curvature, >= 1.
    start_step: first step with an estimate, >= 0.
    decay: decay rate of the running average of the curvature, in [0, 1); 0 means no average.
    key: int or JAX key for the random draws of the default estimator.
    axis_name: mapped axis under ``pmap`` or ``shard_map``; estimates and output are averaged
      over it.
    sync_perturbation: as in ``ire_drift``; it needs ``rho``.

  Returns:
    The transformation ``ire_update(...)`` or ``ire_drift(...)``.

  State:
    ``IreUpdateState`` or ``IreDriftState``: 1 byte per parameter, and with ``decay > 0`` 4 more.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type, or
      ``sync_perturbation`` is True without ``rho``.

  Source:
    Wang, Wang, et al. 2024, arXiv 2405.20763. The form with ``rho`` is flatopt's own.

  Example:
    >>> import optax, flatopt
    >>> after = optax.chain(optax.adamw(1e-3), flatopt.ire())
    >>> before = optax.chain(flatopt.ire(rho=0.05), optax.adamw(1e-3))
  """
  shared: dict[str, Any] = dict(
    curvature=curvature,
    update_interval=update_interval,
    start_step=start_step,
    decay=decay,
    key=key,
    axis_name=axis_name,
  )
  if rho is not None:
    return ire_drift(rho, kappa, flat_fraction, sync_perturbation=sync_perturbation, **shared)
  if sync_perturbation:
    raise ValueError("ire: sync_perturbation=True needs rho; without rho nothing is perturbed")
  return ire_update(kappa, flat_fraction, **shared)
