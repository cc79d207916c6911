"""The matrix that a measure looks at: the rows and columns of an operator that a mask selects."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flatopt import _arguments, _perturbation, _results, _tree
from flatopt._typing import Mask, Params
from flatopt.sharpness import host
from flatopt.sharpness.operators import GradFnOrOperator, Operator, explained, hessian


class Block(NamedTuple):
  """An operator at params, and the leaves whose rows and columns are measured.

  A vector of the block is the list of the selected leaves: nothing is drawn or stored for others.
  """

  method: str  # the name in error messages
  operator: Operator
  params: Params
  mask: tuple[bool, ...]  # one bool per leaf of the params

  def select(self, tree: Params) -> list[jax.Array]:
    """Returns the selected leaves of a tree like params."""
    return [x for on, x in zip(self.mask, jax.tree.leaves(tree), strict=True) if on]

  def embed(self, vectors: list[jax.Array]) -> Params:
    """Returns a tree like params, zero on the other leaves."""
    zeros = lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w))
    chosen = iter(vectors)
    leaves, structure = jax.tree.flatten(self.params)
    return structure.unflatten(
      next(chosen) if on else zeros(w) for on, w in zip(self.mask, leaves, strict=True)
    )

  def product(self, vector: list[jax.Array]) -> list[jax.Array]:
    """Returns the product of the block with a vector."""
    whole = _tree.cast_like(self.embed(vector), self.params)
    with explained(self.method, _REMEDY):
      product = self.operator.product(self.params, whole)
    _results.check_gradients(self.method, "grad_fn", product, self.params)
    return self.select(product)

  def scan(self, body: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
    """``jax.lax.scan`` over products; a Python loop if these are loops on the host."""
    # Outside jit the loop is compiled here, and only then JAX looks for the derivative.
    with explained(self.method, _REMEDY):
      return host.scan(self.operator, body, carry, xs)


_REMEDY = (
  'pass sharpness.hessian(grad_fn, mode="reverse-reverse") as grad_fn, or gauss_newton(logits_fn,'
  ' loss_fn, mode="reverse-reverse"); with Diffrax, solve with adjoint=diffrax.DirectAdjoint()'
)


def as_block(method: str, grad_fn: GradFnOrOperator, params: Params, mask: Mask | None) -> Block:
  """Checks the arguments of a measure, and makes the block."""
  _arguments.check_params(method, params)
  params = jax.tree.map(jnp.asarray, params)
  if not isinstance(grad_fn, Operator):
    grad_fn = hessian(_arguments.check_closure(method, "grad_fn", grad_fn))
  chosen = _perturbation.checked_mask(method, True if mask is None else mask, params)
  return Block(method, grad_fn, params, tuple(jax.tree.leaves(chosen)))


def check_num_matvecs(block: Block, num_matvecs: Any, minimum: int = 1) -> None:
  """Checks ``num_matvecs`` against the number of params in the block."""
  _arguments.check_integer(block.method, "num_matvecs", num_matvecs, minimum=minimum)
  size = sum(x.size for x in block.select(block.params))
  if num_matvecs > size:
    of_mask = "" if all(block.mask) else " on the mask"
    raise ValueError(
      f"{block.method}: num_matvecs must be at most {size}, the number of params{of_mask}; got"
      f" {num_matvecs}"
    )


def hessian_vector_product(
  grad_fn: GradFnOrOperator, params: Params, vector: Params, *, mask: Mask | None = None
) -> Params:
  """Returns the Hessian of the loss at ``params`` times ``vector``.

      H v = the derivative of grad_fn at params along v

  It uses forward mode over reverse mode. You can jit it. Cost: 2 gradients.

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
      wrong type or shape; or the model has no forward mode (use ``hessian`` with another ``mode``).

  Source:
    Pearlmutter 1994, doi 10.1162/neco.1994.6.1.147.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> grad_fn = jax.grad(lambda w: w[0] ** 2 * w[1])
    >>> sharpness.hessian_vector_product(grad_fn, jnp.array([1.0, 3.0]), jnp.array([1.0, 0.0]))
    Array([6., 2.], dtype=float32)
  """
  block = as_block("hessian_vector_product", grad_fn, params, mask)
  _arguments.check_same_tree("hessian_vector_product", "vector", vector, params)
  return _tree.cast_like(block.embed(block.product(block.select(vector))), block.params)
