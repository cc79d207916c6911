"""Implicit regularisation enhancement (IRE): longer steps, or more of SAM, along flat coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, ScalarOrSchedule, ShardAxes
from flatopt.implicit_regularisation.flat_mask import FlatMask, flat_mask


class IreState(NamedTuple):
  """The number of calls of ``update``, SAM's extra gradients, and the mask of flat coordinates."""

  count: jax.Array
  extra_gradients: jax.Array  # without those of the estimator, whose state counts its own
  mask: FlatMask

  method = "ire"
  flat = property(lambda self: self.mask.flat)

  def metrics(self):
    return {"count": self.count, **self.mask.metrics()}


def ire(
  kappa: ScalarOrSchedule = 2.0,
  *,
  flat_fraction: ScalarOrSchedule = 0.8,
  rho: ScalarOrSchedule | None = None,
  curvature: optax.GradientTransformation | None = None,
  update_interval: int = 10,
  start_step: int = 0,
  decay: float = 0.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Makes training move faster along flat coordinates, after or before the base optimizer.

      every update_interval steps from start_step:
        h <- decay * h + (1 - decay) * |diagonal of the Hessian at w|
        flat = 1 where h <= the floor(size * flat_fraction)-th smallest entry of h, else 0
      ire(), after the base optimizer, whose update is u:
        output: u * (1 + kappa * flat)
      ire(rho=...), before the base optimizer:
        d = grad_fn(w + rho * g / ||g||) - g
        output: g + d + kappa * flat * d

  ``ire()`` is the method of the IRE paper, which uses it for faster pre-training with AdamW and
  for flatter minima with SGD. ``u`` contains momentum, decoupled weight decay and learning rate.

  ``ire(rho=...)`` takes the place of ``sam``. ``d`` is the change that SAM makes to the gradient.
  It lets training drift to flatter places, and this form makes that drift faster. Prefer it if
  the base optimizer is adaptive and you pay for SAM's gradient anyway. It works before Adam, where
  a fixed scaling of the gradient has no effect because Adam divides it out again: the scale of
  Adam's second moment comes from the noise of the gradient, not from ``d``. With SGD it equals SAM
  followed by ``ire()``, to first order and on the manifold of minima.

  Cost: the curvature estimator's gradients (2 with the default, 1 with Gauss-Newton-Bartlett) every
  ``update_interval`` steps, and with ``rho`` one extra gradient per step.

  Args:
    kappa: extra weight on flat coordinates, >= 0 (0: base optimizer or SAM); it may be a schedule.
    flat_fraction: share of all coordinates to treat as flat, in [0, 1] (gamma in the paper). All
      coordinates with exactly the threshold's curvature count as flat, so if many are exactly
      0, the flat share is larger than ``flat_fraction``.
    rho: radius of SAM's perturbation, in units of the params' l2 norm, >= 0; it may be a schedule.
      ``None``: the form after the base optimizer.
    curvature: transformation whose ``update`` returns estimates of the Hessian's diagonal;
      ``None``: ``flatopt.curvature.hutchinson(key=key)``. If you can sample labels from the
      model, use ``flatopt.curvature.gauss_newton_bartlett()``.
    update_interval: number of steps between two estimates of the curvature, >= 1 (K in the paper).
    start_step: first step with an estimate, >= 0 (T_w in the paper). Before it nothing is flat.
    decay: decay rate of the curvature's average, in [0, 1), without bias correction; 0: no average.
    key: int or JAX key for the random draws of the default estimator.
    axis_name: as in ``sam``; the estimates are averaged over it, too.
    shard_axes: as in ``sam``; counts are over all shards, too.
    sync_perturbation: as in ``sam``. It needs ``rho``.

  Returns:
    A transformation whose ``update`` needs ``params`` and the closures that ``curvature`` needs,
    ``grad_fn(params)`` or ``sampled_grad_fn(params, key)``; with ``rho`` also ``grad_fn``.

  State:
    count, extra_gradients: int32, shape (). mask.flat: bool, like params, 1 byte per parameter.
    mask.curvature: ``h``, like params, in float32 or wider, only if ``decay > 0``. mask.threshold,
    mask.flat_share, mask.refreshes: scalars. mask.estimator: the state of ``curvature``.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Wang, Wang, et al. 2024, arXiv 2405.20763, algorithm 1. Deviation: if an entry of an estimate
    is not finite, its average does not change; without an average, the coordinate is not flat.
    The form with ``rho`` is flatopt's own: the paper changes only the base optimizer's update,
    never the gradient. The documentation's page on IRE has measurements.

  Example:
    >>> import jax, jax.numpy as jnp, optax, flatopt
    >>> grad_fn = jax.grad(lambda w: 0.5 * (9 * w[0] ** 2 + w[1] ** 2))
    >>> optimizer = optax.chain(optax.sgd(0.1), flatopt.ire(kappa=2.0, flat_fraction=0.5))
    >>> w = jnp.array([1.0, 1.0])
    >>> state = optimizer.init(w)
    >>> updates, state = optimizer.update(grad_fn(w), state, w, grad_fn=grad_fn)
    >>> print([round(float(u), 3) for u in updates])  # the second is flat: -0.1 * (1 + 2)
    [-0.9, -0.3]
    >>> before = optax.chain(flatopt.ire(rho=0.05), optax.adamw(1e-3))
  """
  _arguments.check_number("ire", "kappa", kappa, low=0)
  _arguments.check_axes("ire", axis_name, shard_axes, sync_perturbation)
  if sync_perturbation and rho is None:
    raise ValueError("ire: sync_perturbation=True needs rho; without rho nothing is perturbed")
  perturbation = None
  if rho is not None:
    perturbation = _perturbation.Perturbation("ire", rho, axis_name, shard_axes, sync_perturbation)
  init_mask, refresh = flat_mask(
    flat_fraction, curvature, update_interval, start_step, decay, key, axis_name, shard_axes
  )

  def init(params):
    return IreState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), init_mask(params))

  def enhanced_update(kappa, u, flat):
    return jnp.where(flat, u * (1 + kappa), u)

  def enhanced_gradient(kappa, g_s, g, flat):
    return jnp.where(flat, g_s + kappa * (g_s - g), g_s)

  def update(updates, state, params, step, extra_args):
    if curvature is None:  # asked for here: the user has not written the estimator's name
      _method.closure("ire", "grad_fn", extra_args)
    mask = refresh(state.mask, state.count, step, updates, params, extra_args)
    kappa_t = (_arguments.value_at(kappa, step),)
    if perturbation is None:
      output = _tree.map_wide(enhanced_update, kappa_t, updates, mask.flat)
    else:
      sharp = perturbation.gradient(params, updates, step, extra_args)
      output = _tree.map_wide(enhanced_gradient, kappa_t, sharp, updates, mask.flat)
      state = state._replace(extra_gradients=_tree.increment(state.extra_gradients))
    output = _tree.cast_like(_devices.mean(output, axis_name), params)
    return output, state._replace(mask=mask)

  place = "after" if rho is None else "before"
  return _method.transformation(IreState, init, update, place=place, axis_name=axis_name)
