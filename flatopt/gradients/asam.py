"""Adaptive SAM (ASAM): a perturbation that is larger for larger weights."""

import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation
from flatopt._typing import AxisName, Mask, ScalarOrSchedule, ShardAxes


class AsamState(_method.CountState):
  """The number of calls of ``update``."""

  method = "asam"


def asam(
  rho: ScalarOrSchedule = 0.5,
  *,
  eta: ScalarOrSchedule = 0.01,
  scale_mask: Mask | None = None,
  mask: Mask | None = None,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM with a perturbation that grows with the size of each weight.

      T = |w| + eta              on the leaves of scale_mask, T = 1 on the others
      eps = rho * T^2 g / ||T g||
      output: grad_fn(w + eps)

  Prefer it to ``sam`` if the layers differ much in scale. If you scale one layer up and the next
  one down so that the network computes the same function, the sharpness that ``sam`` sees changes,
  and the sharpness that ``asam`` sees does not. A good ``rho`` is about ten times that of ``sam``.
  Cost: one extra gradient per step.

  Args:
    rho: radius of the perturbation, >= 0: the norm of ``eps / T``, so it is relative to the
      weights; a number, a scalar array or a schedule.
    eta: added to ``|w|``, in units of the params, >= 0; with it, weights near 0 are perturbed too.
    scale_mask: bool pytree, or a callable ``params -> bool pytree``, that is True on the leaves
      to scale. ``None``: all leaves except biases, which are recognised by their names.
    mask, axis_name, shard_axes, sync_perturbation: as in ``sam``.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count: int32, shape (), 4 bytes.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Kwon, Kim, Park, Choi 2021, arXiv 2102.11600, algorithm 1 with p = 2. Deviation: the
    published code scales the parameters whose name contains "weight"; ``scale_mask=None``
    scales all leaves except biases. ``|w| + eta`` is computed in float32 or wider.

  Example:
    >>> import jax, jax.numpy as jnp, optax, flatopt
    >>> grad_fn = jax.grad(lambda p: jnp.sum(p["kernel"] ** 4))
    >>> optimizer = optax.chain(flatopt.asam(rho=0.1, eta=0.0), optax.sgd(0.01))
    >>> params = {"kernel": jnp.array([2.0])}
    >>> state = optimizer.init(params)
    >>> updates, state = optimizer.update(grad_fn(params), state, params, grad_fn=grad_fn)
    >>> print(round(float(updates["kernel"][0]), 5))  # -0.01 * 4 * (2 + 0.1 * 2)**3
    -0.42592
  """
  _arguments.check_number("asam", "eta", eta, low=0)  # which None would pass below
  perturbation = _perturbation.Perturbation(
    "asam", rho, axis_name, shard_axes, sync_perturbation, eta, scale_mask, mask
  )

  def init(params):
    return AsamState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    sharp = perturbation.gradient(params, updates, step, extra_args)
    return _devices.mean(sharp, axis_name), state

  return _method.transformation(AsamState, init, update, place="before", axis_name=axis_name)
