"""Sharpness-aware minimisation: the gradient at the worst point nearby."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Mask, ScalarOrSchedule


class SamState(NamedTuple):
  """Count of update calls, each one extra gradient, and the state of ``ascent``."""

  count: jax.Array
  ascent: optax.OptState

  method = "sam"

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


_OTHER_WORDS = {
  "optimizer": "chain it behind: optax.chain(flatopt.sam(rho), optimizer)",
  "base_optimizer": "chain it behind: optax.chain(flatopt.sam(rho), base_optimizer)",
  "adv_optimizer": "its direction is ascent, its length rho: flatopt.sam(rho, ascent=...)",
  "sync_period": "every update is a whole step of SAM; for several ascents use flatopt.lookbehind",
  "opaque_mode": "it is always so: pass grad_fn to update",
  "reset_state": "no state is reset; the ascent's runs on",
  "batch_axis_name": "it is called axis_name here",
  "adaptive": "that is flatopt.asam",
}


@_arguments.explain_unknown("sam", _OTHER_WORDS)
def sam(
  rho: ScalarOrSchedule = 0.05,
  *,
  ascent: optax.GradientTransformation | None = None,
  mask: Mask | None = None,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Replaces the gradient by the one at the worst point within ``rho``, to first order.

      a = ascent(g)              g itself without one
      eps = rho * a / ||a||
      output: grad_fn(w + eps)

  The reference of all sharpness-aware methods, and the first to try where twice the
  gradients are affordable. Stands before the base optimizer:
  ``optax.chain(flatopt.sam(0.05), optax.sgd(0.1))``. Cost: one extra gradient a step.

  Args:
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0; a
      number, a scalar array or a schedule.
    ascent: any optax transformation, for the direction of the perturbation alone:
      ``optax.scale_by_adam()``, ``optax.scale_by_sign()``. Its length does not matter, but
      its sign does: no learning rate in it. ``None`` is the gradient.
    mask: bool pytree, or a callable ``params -> bool pytree``, of the leaves to perturb,
      which alone enter the norm; ``None`` means all. The normalisation layers alone are
      SAM-ON (Mueller et al. 2023, arXiv 2306.04226).
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average the output over, and
      the gradient that moves ``ascent``'s state.
    sync_perturbation: perturb by the gradient averaged over ``axis_name`` instead of
      each device's own (m-sharpness, the default).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (): 4 bytes, whatever the params. ascent: the state of ``ascent``,
    nothing without one.

  Raises:
    ValueError, TypeError: a bad argument, a missing ``grad_fn`` or ``params``.

  Source:
    Foret, Kleiner, Mobahi, Neyshabur 2020, arXiv 2010.01412, equation 2 with p = 2.
    A zero gradient gives a zero perturbation; the published code adds 1e-12 to the norm.
    ``ascent`` is what ``optax.contrib.sam`` calls ``adv_optimizer``. A gradient that is not
    finite leaves as NaN and does not change its state.

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
  if ascent is not None:
    _arguments.check_transformation("sam", "ascent", ascent)
    ascent = optax.with_extra_args_support(ascent)

  def init(params):
    ascent_state = optax.EmptyState() if ascent is None else ascent.init(params)
    return SamState(jnp.zeros((), jnp.int32), ascent_state)

  def update(updates, state, params, step, extra_args):
    direction, ascent_state = updates, state.ascent
    if ascent is not None:
      direction, ascent_state = _climb(
        ascent, updates, state.ascent, params, extra_args, axis_name, sync_perturbation
      )
    sharp = _perturbation.sharpness_gradient(
      "sam",
      extra_args["grad_fn"],
      params,
      direction,
      _arguments.value_at(rho, step),
      mask=mask,
      axis_name=axis_name,
      sync_perturbation=sync_perturbation and ascent is None,
    )
    return _devices.mean(sharp, axis_name), SamState(_tree.increment(state.count), ascent_state)

  return _method.transformation(
    "sam", SamState, init, update, place="before", closures=("grad_fn",), axis_name=axis_name
  )


def _climb(ascent, updates, ascent_state, params, extra_args, axis_name, sync_perturbation):
  """The direction, NaN where gradients are not finite, and the state of ``ascent``.

  All devices must keep the same state, so that averaged gradients move it, also where each
  device goes along what the common state makes of its own.
  """
  grads = _tree.cast_like(updates, params)
  averaged = _devices.mean(grads, axis_name)
  direction, moved = ascent.update(averaged, ascent_state, params, **extra_args)
  if axis_name is not None and not sync_perturbation:
    direction, _ = ascent.update(grads, ascent_state, params, **extra_args)
  finite = jnp.isfinite(_tree.norm(averaged, _devices.shard_axes(params, axis_name)))
  return _perturbation.nan_unless(finite, direction), _tree.where(finite, moved, ascent_state)
