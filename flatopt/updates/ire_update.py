"""Implicit regularisation enhancement (IRE): longer steps along flat coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._flat_mask import FlatMask, flat_mask
from flatopt._typing import AxisName, ScalarOrSchedule


class IreUpdateState(NamedTuple):
  """The number of calls of ``update``, and the mask of flat coordinates."""

  count: jax.Array
  mask: FlatMask

  method = "ire_update"
  extra_gradients = 0  # the estimator's state counts them

  @property
  def flat(self):
    return self.mask.flat

  def metrics(self):
    return {"count": self.count, **self.mask.metrics()}


def ire_update(
  kappa: ScalarOrSchedule = 2.0,
  flat_fraction: ScalarOrSchedule = 0.8,
  *,
  curvature: optax.GradientTransformation | None = None,
  update_interval: int = 10,
  start_step: int = 0,
  decay: float = 0.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
  """Multiplies the base optimizer's update by ``1 + kappa`` along flat coordinates.

      every update_interval steps from start_step:
        h <- decay * h + (1 - decay) * |diagonal of the Hessian at w|
        flat = 1 where h <= the floor(size * flat_fraction)-th smallest entry of h, else 0
      output: u * (1 + kappa * flat)

  ``u`` is the base optimizer's update, with its momentum, decoupled weight decay and learning
  rate. Put the method after the base optimizer. This is the method of the IRE paper, which uses
  it for faster pre-training with AdamW and for flatter minima with SGD. Cost: 2 extra gradients
  every ``update_interval`` steps with the default estimator, 1 with Gauss-Newton-Bartlett.

  Args:
    kappa: extra weight of the update on flat coordinates, >= 0; 0 is the base optimizer; a
      number, a scalar array or a schedule.
    flat_fraction: share of all coordinates to treat as flat, in [0, 1] (gamma in the paper). All
      coordinates with exactly the threshold's curvature count as flat, so if many are exactly
      0, the flat share is larger than ``flat_fraction``.
    curvature: transformation whose ``update`` returns estimates of the Hessian's diagonal;
      ``None``: ``flatopt.curvature.hutchinson(key=key)``. If you can sample labels from the
      model, use ``flatopt.curvature.gauss_newton_bartlett()``.
    update_interval: number of steps between two estimates of the curvature, >= 1 (K in the
      paper).
    start_step: first step with an estimate, >= 0 (T_w in the paper). Before it the output is
      ``u``.
    decay: decay rate of the running average of the curvature, in [0, 1). The average has no bias
      correction; 0 means no average.
    key: int or JAX key for the random draws of the default estimator.
    axis_name: mapped axis under ``pmap`` or ``shard_map``; estimates and updates are averaged
      over it.

  Returns:
    A transformation whose ``update`` needs ``params`` and the closures that ``curvature`` needs,
    which are ``grad_fn(params)`` or ``sampled_grad_fn(params, key)``.

  State:
    count: int32, shape (). mask.flat: bool, like params, 1 byte per parameter. mask.curvature:
    ``h``, like params, in float32 or wider, only if ``decay > 0``. mask.threshold,
    mask.flat_share, mask.refreshes: scalars. mask.estimator: the state of ``curvature``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type, or a closure or
      ``params`` is missing.

  Source:
    Wang, Wang, et al. 2024, arXiv 2405.20763, algorithm 1. Deviation: if an entry of an estimate
    is not finite, its average does not change; without an average, the coordinate is not flat.

  Example:
    >>> import jax, jax.numpy as jnp, optax, flatopt
    >>> grad_fn = jax.grad(lambda w: 0.5 * (9 * w[0] ** 2 + w[1] ** 2))
    >>> optimizer = optax.chain(optax.sgd(0.1), flatopt.ire_update(kappa=2.0, flat_fraction=0.5))
    >>> w = jnp.array([1.0, 1.0])
    >>> state = optimizer.init(w)
    >>> updates, state = optimizer.update(grad_fn(w), state, w, grad_fn=grad_fn)
    >>> print([round(float(u), 3) for u in updates])  # the second is flat: -0.1 * (1 + 2)
    [-0.9, -0.3]
  """
  _arguments.check_number("ire_update", "kappa", kappa, low=0)
  _arguments.check_axis("ire_update", axis_name)
  init_mask, refresh = flat_mask(
    "ire_update", flat_fraction, curvature, update_interval, start_step, decay, key, axis_name
  )

  def init(params):
    return IreUpdateState(count=jnp.zeros((), jnp.int32), mask=init_mask(params))

  def update(updates, state, params, step, extra_args):
    mask = refresh(state.mask, state.count, step, updates, params, extra_args)

    def enhance(kappa, u, flat):
      return jnp.where(flat, u * (1 + kappa), u)

    kappa_t = _arguments.value_at(kappa, step)
    enhanced = _tree.map_wide(enhance, (kappa_t,), updates, mask.flat)
    output = _tree.cast_like(_devices.mean(enhanced, axis_name), params)
    return output, IreUpdateState(_tree.increment(state.count), mask)

  return _method.transformation(
    "ire_update", IreUpdateState, init, update, place="after", axis_name=axis_name
  )
