"""IRE by one name: before the base optimizer with ``rho``, after it without."""

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
  """Implicit regularisation enhancement, in the place that ``rho`` tells.

      ire()         is ire_update and stands behind the base optimizer
      ire(rho=...)  is ire_drift and stands before it

  Cost: ``ire_update``'s or ``ire_drift``'s.

  Args:
    kappa: enhancement along flat coordinates, >= 0.
    flat_fraction: share of all coordinates called flat, in [0, 1].
    rho: radius of the perturbation, in units of the params' l2 norm, >= 0, or ``None``.
    curvature: as in ``ire_update``, like all that follow.
    update_interval: steps between refreshes, >= 1.
    start_step: first step that refreshes and enhances, >= 0.
    decay: of the curvature's running average, in [0, 1).
    key: int or JAX key of the default estimator's draws.
    axis_name: mapped axis under ``pmap`` or ``shard_map``.
    sync_perturbation: as in ``ire_drift``; needs ``rho``.

  Returns:
    The transformation ``ire_update(...)`` or ``ire_drift(...)``.

  State:
    ``IreUpdateState`` or ``IreDriftState``: 1 byte a parameter, more with ``decay``.

  Raises:
    ValueError, TypeError: a bad argument, or ``sync_perturbation`` without ``rho``.

  Source:
    Wang, Wang, et al. 2024, arXiv 2405.20763; the form with ``rho`` is flatopt's own.

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
    raise ValueError("ire: sync_perturbation=True needs rho; without it nothing is perturbed")
  return ire_update(kappa, flat_fraction, **shared)
