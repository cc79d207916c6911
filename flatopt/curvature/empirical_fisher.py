"""The empirical Fisher diagonal: the squared gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._typing import AxisName


class EmpiricalFisherState(NamedTuple):
  """``count``: estimates so far, each of one gradient."""

  count: jax.Array

  method = "empirical_fisher"

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


def empirical_fisher(*, axis_name: AxisName = None) -> optax.GradientTransformationExtraArgs:
  """Takes the squared gradient of the loss for the curvature diagonal.

      g = grad_fn(params)
      estimate: g * g

  A crude stand-in where neither labels can be sampled nor Hessian-vector products be
  taken: it vanishes with the gradient, whatever the curvature. Cost: 1 gradient.

  Args:
    axis_name: mapped axis under ``pmap`` or ``shard_map`` to average estimates over.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``
    and returns the estimate, like params; its updates argument is not read.

  State:
    count: int32, shape ().

  Raises:
    ValueError, TypeError: a bad argument, a missing ``grad_fn`` or ``params``.

  Source:
    Kunstner, Balles, Hennig 2019, arXiv 1905.12558, on what it is and is not; here the
    batch gradient is squared, not the per-example ones.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import curvature
    >>> estimator = curvature.empirical_fisher()
    >>> w = jnp.array([1.0, 2.0])
    >>> grad_fn = jax.grad(lambda w: 0.5 * jnp.sum(w**2))
    >>> estimator.update(w, estimator.init(w), w, grad_fn=grad_fn)[0].tolist()
    [1.0, 4.0]
  """
  _arguments.check_axis("empirical_fisher", axis_name)

  def init(params):
    return EmpiricalFisherState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    del updates, step
    grads = extra_args["grad_fn"](_devices.varying(params, axis_name))
    _arguments.check_gradients("empirical_fisher", "grad_fn", grads, params)
    estimate = jax.tree.map(lambda g: jnp.square(g.astype(_tree.wide_dtype(g))), grads)
    return _devices.mean(estimate, axis_name), EmpiricalFisherState(_tree.increment(state.count))

  return _method.transformation(
    "empirical_fisher",
    EmpiricalFisherState,
    init,
    update,
    place="curvature",
    closures=("grad_fn",),
  )
