"""Sharpness-aware minimisation (SAM): the gradient at the worst point nearby."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Mask, ScalarOrSchedule, ShardAxes


class SamState(NamedTuple):
  """The number of calls of ``update``, and the state of ``ascent``."""

  count: jax.Array
  ascent: optax.OptState

  method = "sam"
  extra_gradients = property(lambda self: self.count)  # one per call
  metrics = _method.reported("count")


def sam(
  rho: ScalarOrSchedule = 0.05,
  *,
  ascent: optax.GradientTransformation | None = None,
  mask: Mask | None = None,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Replaces the gradient by the gradient at the worst point within the distance ``rho``.

      a = ascent(g)              a = g if ascent is None
      eps = rho * a / ||a||
      output: grad_fn(w + eps)

  ``w + eps`` is the worst point to first order: there the linearised loss is highest. Try this
  method first if you can afford twice the gradients. Cost: one extra gradient per step.

  Args:
    rho: radius of the perturbation, in units of the params' global l2 norm, >= 0; a number, a
      scalar array or a schedule.
    ascent: an optax transformation that computes the direction of the perturbation, such as
      ``optax.scale_by_adam()`` or ``optax.scale_by_sign()``. The length of its output does not
      matter, the sign does: it must have no learning rate. ``None``: the gradient.
    mask: bool pytree, or a callable ``params -> bool pytree``. Only leaves that are True are
      perturbed and counted in the norm. ``None``: all leaves. A mask that selects only the
      normalisation layers gives SAM-ON (Mueller et al. 2023, arXiv 2306.04226).
    axis_name: mapped axis under ``pmap`` or ``shard_map``. The output is averaged over it, and
      so is the gradient that changes the state of ``ascent``.
    shard_axes: mesh axes that the params are sharded over inside ``shard_map``; norms are over all
      shards. ``()``: each device has its own model. ``None``: they vary over ``axis_name`` at most.
    sync_perturbation: if True, perturb by the gradient averaged over ``axis_name``; if False, by
      each device's own gradient (m-sharpness).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (), 4 bytes. ascent: the state of ``ascent``, empty if it is ``None``.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Foret, Kleiner, Mobahi, Neyshabur 2020, arXiv 2010.01412, equation 2 with p = 2. Deviations: a
    zero gradient gives a zero perturbation, where the published code adds 1e-12 to the norm. If the
    gradient is not finite, every entry of the output is NaN, and the state of ``ascent`` does not
    change. ``ascent`` is not in the paper; ``optax.contrib.sam`` calls it ``adv_optimizer``.

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
  # The direction that ``ascent`` returns is already the averaged one.
  sync = ascent is None and sync_perturbation
  perturbation = _perturbation.Perturbation("sam", rho, axis_name, shard_axes, sync, mask=mask)
  _arguments.check_flag("sam", "sync_perturbation", sync_perturbation)
  if ascent is not None:
    ascent = _arguments.as_transformation("sam", "ascent", ascent)

  def init(params):
    ascent_state = optax.EmptyState() if ascent is None else ascent.init(params)
    return SamState(jnp.zeros((), jnp.int32), ascent_state)

  def update(updates, state, params, step, extra_args):
    direction, ascent_state = updates, state.ascent
    if ascent is not None:
      direction, ascent_state = _ascent_direction(
        ascent, updates, state.ascent, params, extra_args, perturbation, sync_perturbation
      )
    sharp = perturbation.gradient(params, direction, step, extra_args)
    return _devices.mean(sharp, axis_name), state._replace(ascent=ascent_state)

  return _method.transformation(SamState, init, update, place="before", axis_name=axis_name)


def _ascent_direction(
  ascent, updates, ascent_state, params, extra_args, perturbation, sync_perturbation
):
  """Returns the output of ``ascent`` and its new state.

  The averaged gradient changes the state, so that the state is the same on every device. From
  this state and its own gradient, each device computes its direction. If the gradients are not
  finite, the direction is NaN and the state does not change.
  """
  grads = _tree.cast_like(updates, params)
  averaged = _devices.mean(grads, perturbation.axis_name)
  direction, new_state = ascent.update(averaged, ascent_state, params, **extra_args)
  if perturbation.axis_name is not None and not sync_perturbation:
    direction, _ = ascent.update(grads, ascent_state, params, **extra_args)
  if observe := extra_args.get(_method.OBSERVER):
    observe("sam", "ascent", grads, direction)
  finite = jnp.isfinite(_tree.norm(averaged, perturbation.axes(params)))
  return _perturbation.nan_unless(finite, direction), _tree.where(finite, new_state, ascent_state)
