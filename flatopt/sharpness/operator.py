"""Operators: symmetric matrices that depend on the params, given by products with vectors."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from flatopt import _tree
from flatopt._typing import GradFn, Params
from flatopt.sharpness.host import mean_over
from flatopt.sharpness.programs import program


class Operator(abc.ABC):
  """A symmetric matrix that depends on the params. ``hessian`` and ``gauss_newton`` make them.

  Equal operators share compiled programs, so subclasses compare the functions they are made of.
  """

  on_host = False  # True if a product needs a loop on the host, which cannot be traced

  @abc.abstractmethod
  def product(self, method: str, params: Params, vector: Params, *batch: Any) -> Params:
    """Returns the matrix at ``params`` times ``vector``; ``method`` is for error messages."""


GradFnOrOperator: TypeAlias = GradFn | Operator


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no hash
class MeanOverBatches(Operator):
  """The mean of an operator over batches in memory, by a scan over the batches."""

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


@dataclasses.dataclass(frozen=True, eq=False)  # an iterable may have no hash
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
