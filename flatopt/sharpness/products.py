"""A product of the Hessian, or another operator, with a vector."""

from flatopt import _arguments, _tree
from flatopt._typing import Mask, Params
from flatopt.sharpness.block import as_block
from flatopt.sharpness.operator import GradFnOrOperator


def hessian_vector_product(
  grad_fn: GradFnOrOperator, params: Params, vector: Params, *, mask: Mask | None = None
) -> Params:
  """The Hessian of the loss at ``params``, times ``vector``.

      H v = the derivative of grad_fn at params along v

  Forward mode over reverse mode. Like ``jax.grad`` it can be jitted, and does not compile by
  itself. Cost: 2 gradients.

  Args:
    grad_fn: ``params -> grads``, such as ``jax.grad(loss_fn)`` or
      ``over_iterable(jax.grad(loss_fn), batches)``; or an operator, whose product it is then.
    params: pytree of real floating arrays.
    vector: a pytree like params; cast to their dtypes.
    mask: bool pytree, a prefix of one, or ``params -> bool pytree``: the leaves whose rows and
      columns of the Hessian are left, the others being zero. ``None``: all.

  Returns:
    A pytree like params.

  Raises:
    ValueError, TypeError: params, vector or gradients that are no such trees; a bad mask; a
      model without forward mode, for which ``hessian`` has another.

  Source:
    Pearlmutter 1994, doi 10.1162/neco.1994.6.1.147.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> grad_fn = jax.grad(lambda w: w[0] ** 2 * w[1])
    >>> sharpness.hessian_vector_product(grad_fn, jnp.array([1.0, 3.0]), jnp.array([1.0, 0.0]))
    Array([6., 2.], dtype=float32)
  """
  block, params = as_block("hessian_vector_product", grad_fn, params, mask)
  _arguments.check_same_tree("hessian_vector_product", "vector", vector, params)
  product = block.product(block.select(vector), params)
  return _tree.cast_like(block.embed(product, params), params)
