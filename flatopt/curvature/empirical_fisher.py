"""The diagonal of the empirical Fisher matrix: the squared gradient."""

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _results, _tree
from flatopt._typing import AxisName


class EmpiricalFisherState(_method.CountState):
  """The number of estimates so far."""

  method = "empirical_fisher"


def empirical_fisher(*, axis_name: AxisName = None) -> optax.GradientTransformationExtraArgs:
  """Estimates the diagonal of the Hessian by the squared gradient of the loss.

      g = grad_fn(params)
      output: g * g

  This is a rough estimate: where the gradient is 0 it is 0, whatever the curvature. Use it only if
  you can neither sample labels nor compute Hessian-vector products. Cost: one gradient per
  estimate.

  Args:
    axis_name: mapped axis under ``pmap`` or ``shard_map``; the estimates are averaged over it.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``. It returns
    the estimate, a pytree like params, and does not read ``updates``.

  State:
    count: int32, shape ().

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Kunstner, Balles, Hennig 2019, arXiv 1905.12558, discuss its limits. Deviation: this squares
    the gradient of the batch, not the gradients of single examples.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import curvature
    >>> estimator = curvature.empirical_fisher()
    >>> w = jnp.array([1.0, 2.0])
    >>> grad_fn = jax.grad(lambda w: 0.5 * jnp.sum(w**2))
    >>> estimator.update(w, estimator.init(w), w, grad_fn=grad_fn)[0].tolist()
    [1.0, 4.0]
  """
  _arguments.check_axes("empirical_fisher", axis_name)

  def init(params):
    return EmpiricalFisherState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    del updates, step
    grad_fn = _method.closure("empirical_fisher", "grad_fn", extra_args)
    grads = grad_fn(_devices.varying(params, axis_name))
    _results.check_gradients("empirical_fisher", "grad_fn", grads, params)
    estimate = jax.tree.map(lambda g: jnp.square(g.astype(_tree.wide_dtype(g))), grads)
    return _devices.mean(estimate, axis_name), EmpiricalFisherState(_tree.increment(state.count))

  return _method.transformation(EmpiricalFisherState, init, update, place="curvature")
