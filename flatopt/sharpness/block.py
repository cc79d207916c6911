"""The rows and columns of an operator that a mask selects."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatopt import _arguments, _perturbation, _tree
from flatopt._typing import Mask, Params
from flatopt.sharpness.hessian import hessian
from flatopt.sharpness.operator import GradFnOrOperator, Operator


class Block(NamedTuple):
  """The rows and columns of an operator that belong to the leaves selected by a mask.

  A vector of the block is the list of the selected leaves. So nothing is drawn, stored or computed
  for the other leaves.
  """

  method: str  # the name in error messages
  operator: Operator
  mask: tuple[bool, ...]  # one bool per leaf of the params

  def select(self, tree: Params) -> list[jax.Array]:
    """Returns the selected leaves of a tree like params."""
    return [x for on, x in zip(self.mask, jax.tree.leaves(tree), strict=True) if on]

  def embed(self, vectors: list[jax.Array], params: Params) -> Params:
    """Returns a tree like params, zero on the other leaves; leading axes of the vectors stay."""
    leading = vectors[0].shape[: vectors[0].ndim - self.select(params)[0].ndim]
    chosen = iter(vectors)
    leaves = [
      next(chosen)
      if on
      else jnp.zeros_like(w, shape=(*leading, *w.shape), dtype=_tree.wide_dtype(w))
      for on, w in zip(self.mask, jax.tree.leaves(params), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)

  def product(self, vector: list[jax.Array], params: Params) -> list[jax.Array]:
    """Returns the product of the block, at the params, with a vector."""
    whole = _tree.cast_like(self.embed(vector, params), params)
    return self.select(self.operator.product(self.method, params, whole))


def as_block(
  method: str, grad_fn: GradFnOrOperator, params: Params, mask: Mask | None
) -> tuple[Block, Params]:
  """Checks the arguments of a measure; returns the block, and the params as arrays."""
  is_operator = isinstance(grad_fn, Operator)
  _arguments.check_closures(method, params, **({} if is_operator else {"grad_fn": grad_fn}))
  operator = grad_fn if is_operator else hessian(grad_fn)
  params = jax.tree.map(jnp.asarray, params)
  return Block(method, operator, _full_mask(method, mask, params)), params


def _full_mask(method: str, mask: Mask | None, params: Params) -> tuple[bool, ...]:
  """Checks the mask and returns one bool per leaf."""
  leaves = jax.tree.leaves(params)
  if mask is None:
    return (True,) * len(leaves)
  full = jax.tree.leaves(_perturbation.full_mask(f"{method}: mask", mask, params))
  for on in full:
    if not isinstance(on, bool | np.bool_):
      raise TypeError(
        f"{method}: the leaves of mask must be True or False; got {_arguments.describe(on)}"
      )
  if not any(full):
    raise ValueError(f"{method}: mask is False on every leaf; it must be True on one or more")
  return tuple(bool(on) for on in full)


def check_num_matvecs(block: Block, num_matvecs: Any, params: Params, minimum: int = 1) -> None:
  """Checks ``num_matvecs`` against the number of params in the block."""
  _arguments.check_integer(block.method, "num_matvecs", num_matvecs, minimum=minimum)
  size = sum(x.size for x in block.select(params))
  if num_matvecs > size:
    of_mask = "" if all(block.mask) else " on the mask"
    raise ValueError(
      f"{block.method}: num_matvecs must be at most {size}, the number of params{of_mask}; got"
      f" {num_matvecs}"
    )
