"""Adaptive sharpness-aware minimisation: SAM in a ball that scales with the weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Mask, ScalarOrSchedule


class AsamState(NamedTuple):
  """``count``: update calls so far, each of which paid for one extra gradient."""

  count: jax.Array

  method = "asam"

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


def asam(
  rho: ScalarOrSchedule = 0.5,
  eta: ScalarOrSchedule = 0.01,
  *,
  scale_mask: Mask | None = None,
  mask: Mask | None = None,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SAM with a perturbation in proportion to each weight's size.

      T = |w| + eta on the leaves of scale_mask, 1 elsewhere
      eps = rho * T^2 g / ||T g||
      output: grad_fn(w + eps)

  Prefer it to ``sam`` where layers differ much in scale: sharpness in this ball does
  not change when one layer is scaled up and the next scaled down. Its ``rho`` is about
  ten times SAM's. Cost: one extra gradient a step.

  Args:
    rho: radius in units of the norm of ``eps / T``, which has no unit, >= 0.
    eta: floor of the scale, in the params' units, >= 0; keeps small weights moving.
    scale_mask: bool pytree, or a callable ``params -> bool pytree``, of the leaves to
      scale; ``None`` means every leaf but biases, told by their names.
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
    Kwon, Kim, Park, Choi 2021, arXiv 2102.11600, algorithm 1 with p = 2. ``eta`` is
    added to |w| in float32 or more; the published code scales parameters whose name
    contains "weight", which ``scale_mask=None`` generalises.

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
  _arguments.check_number("asam", "rho", rho, low=0)
  _arguments.check_number("asam", "eta", eta, low=0)
  _arguments.check_axis("asam", axis_name, sync_perturbation)

  def init(params):
    return AsamState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    sharp = _perturbation.sharpness_gradient(
      "asam",
      extra_args["grad_fn"],
      params,
      updates,
      _arguments.value_at(rho, step),
      eta=_arguments.value_at(eta, step),
      scale_mask=scale_mask,
      mask=mask,
      axis_name=axis_name,
      sync_perturbation=sync_perturbation,
    )
    return _devices.mean(sharp, axis_name), AsamState(_tree.increment(state.count))

  return _method.transformation(
    "asam", AsamState, init, update, place="before", closures=("grad_fn",), axis_name=axis_name
  )
