"""Products of the Hessian with vectors, without the Hessian."""

from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _tree
from flatopt._typing import GradFn, Params
from flatopt.sharpness.host import lift


def hessian_vector_product(grad_fn: GradFn, params: Params, vector: Params) -> Params:
  """The Hessian of the loss at ``params``, times ``vector``.

      H v = the derivative of grad_fn at params along v

  Forward mode over reverse mode; can be jitted. Cost: 2 gradients.

  Args:
    grad_fn: ``params -> grads``, such as ``jax.grad(loss_fn)`` or
      ``over_iterable(jax.grad(loss_fn), batches)``.
    params: pytree of real floating arrays.
    vector: a pytree like params; cast to their dtypes.

  Returns:
    A pytree like params.

  Raises:
    ValueError, TypeError: params, vector or gradients that are no such trees.

  Source:
    Pearlmutter 1994, doi 10.1162/neco.1994.6.1.147.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> grad_fn = jax.grad(lambda w: w[0] ** 2 * w[1])
    >>> sharpness.hessian_vector_product(grad_fn, jnp.array([1.0, 3.0]), jnp.array([1.0, 0.0]))
    Array([6., 2.], dtype=float32)
  """
  params = jax.tree.map(jnp.asarray, params)
  matvec = hessian("hessian_vector_product", grad_fn, params)
  _arguments.check_same_tree("hessian_vector_product", "vector", vector, params)
  return matvec(vector)


def hessian(method: str, grad_fn: GradFn, params: Any):
  """``vector -> H vector``, for a method that has it in its messages."""
  _arguments.check_closures(method, params, grad_fn=grad_fn)

  def along(fn):
    def product(point_and_vector):
      point, vector = point_and_vector
      grads, product = jax.jvp(fn, (point,), (vector,))
      _arguments.check_same_tree(method, "the result of grad_fn", grads, point)
      return product

    return product

  product = lift(along, grad_fn)
  return lambda vector: product((params, _tree.cast_like(vector, params)))
