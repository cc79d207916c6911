"""The product of the Hessian, or of another operator, with a vector."""

from flatopt import _arguments, _tree
from flatopt._typing import Mask, Params
from flatopt.sharpness.block import as_block
from flatopt.sharpness.operator import GradFnOrOperator


def hessian_vector_product(
  grad_fn: GradFnOrOperator, params: Params, vector: Params, *, mask: Mask | None = None
) -> Params:
  """Returns the Hessian of the loss at ``params`` times ``vector``.

      H v = the derivative of grad_fn at params along v

  It uses forward mode over reverse mode. Like ``jax.grad``, it is not compiled by itself, and you
  can jit it. Cost: 2 gradients.

  Args:
    grad_fn: ``params -> grads``, such as ``jax.grad(loss_fn)`` or
      ``over_iterable(jax.grad(loss_fn), batches)``; or an operator in place of the Hessian.
    params: pytree of real floating arrays.
    vector: a pytree like params; it is cast to their dtypes.
    mask: bool pytree, a prefix of it, or a callable ``params -> bool pytree``. The rows and columns
      of the other leaves are set to 0. ``None``: all leaves.

  Returns:
    A pytree like params.

  Raises:
    ValueError, TypeError: ``params``, ``vector``, ``mask`` or the result of ``grad_fn`` is of the
      wrong type or shape; or the model has no forward mode (use ``hessian`` with another
      ``mode``).

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
