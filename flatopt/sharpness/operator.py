"""Matrices that depend on the params, known by their products with vectors."""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from flatopt import _tree
from flatopt._typing import GradFn, Params
from flatopt.sharpness.host import mean_over
from flatopt.sharpness.programs import program


class Operator:
  """A symmetric matrix at any params; ``hessian`` and ``gauss_newton`` make them.

  Equal ones share compiled programs, so subclasses compare by the functions they are made of.
  """

  on_host = False  # whether a product loops on the host and cannot be traced

  def product(self, method: str, params: Params, vector: Params, *batch: Any) -> Params:
    """The matrix at ``params`` times ``vector``, for a method that its errors name."""
    raise NotImplementedError


GradFnOrOperator: TypeAlias = GradFn | Operator


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no hash
class MeanOverBatches(Operator):
  """The mean of an operator over batches in memory, one after the other in a scan."""

  operator: Operator
  stacked_batches: Any
  num_batches: int

  def product(self, method: str, params: Params, vector: Params, *batch: Any) -> Params:
    def add(total, batch):
      product = self.operator.product(method, params, vector, batch)
      return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, product), None

    zeros = jax.tree.map(lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w)), params)
    total, _ = jax.lax.scan(add, zeros, self.stacked_batches)
    return _tree.cast_like(jax.tree.map(lambda x: x / self.num_batches, total), params)


@dataclasses.dataclass(frozen=True, eq=False)  # iterables need not have a hash
class MeanOverIterable(Operator):
  """The mean of an operator over batches, by a loop on the host."""

  operator: Operator
  batches: Iterable[Any]
  on_host = True

  def product(self, method: str, params: Params, vector: Params, *batch: Any) -> Params:
    compiled = program(self.operator, _product, self.operator, method)
    return mean_over(self.batches, compiled, params, vector)


def _product(operator: Operator, method: str, params: Params, vector: Params, batch: Any) -> Params:
  return operator.product(method, params, vector, batch)
