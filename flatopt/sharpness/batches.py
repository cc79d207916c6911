"""The mean of a loss, a gradient or an operator over many batches."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, overload

import jax
import jax.numpy as jnp

from flatopt import _results, _tree
from flatopt._typing import Params
from flatopt.sharpness.host import HostMean
from flatopt.sharpness.operators import MeanOverIterable, Operator


@overload
def over_batches(loss_fn: Operator, stacked_batches: Any) -> Operator: ...
@overload
def over_batches(
  loss_fn: Callable[[Params, Any], jax.Array], stacked_batches: Any
) -> Callable[[Params], jax.Array]: ...
def over_batches(loss_fn: Any, stacked_batches: Any) -> Any:
  """Makes the mean of ``loss_fn`` over batches in memory, as a function of the params.

      loss(params) = mean over i of loss_fn(params, batch_i)

  It is a rematerialised ``lax.scan``. You can jit the loss, its gradient and Hessian-vector
  products, and only the activations of one batch are in memory at a time. Values, gradients and
  products are added in float32 or wider. All batches have the same weight; for other weights, let
  ``loss_fn`` multiply by one that comes with the batch. Cost: a gradient needs one more forward
  pass than usual, because of ``jax.checkpoint``.

  Args:
    loss_fn: ``(params, batch) -> scalar``, a mean over the examples of the batch; or an operator
      whose functions take the batch as their last argument.
    stacked_batches: pytree of arrays, whose leading axis is over one or more batches.

  Returns:
    ``loss(params) -> scalar``; for an operator, the operator that is its mean.

  Raises:
    ValueError: there is no batch, or the leading axes of the leaves have different lengths.
    TypeError: ``loss_fn`` does not return a scalar.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> loss_fn = lambda w, x: jnp.mean((x - w) ** 2)
    >>> loss = sharpness.over_batches(loss_fn, jnp.array([[0.0, 1.0], [2.0, 3.0]]))
    >>> float(loss(jnp.array(1.0)))
    1.5
  """
  shapes = [jnp.shape(x) for x in jax.tree.leaves(stacked_batches)]
  if () in shapes or len({shape[0] for shape in shapes}) != 1 or shapes[0][0] == 0:
    raise ValueError(
      "over_batches: all leaves of stacked_batches must share a leading axis of one batch or"
      f" more; got shapes {shapes}"
    )
  if isinstance(loss_fn, Operator):
    return MeanOverBatches(loss_fn, stacked_batches)

  def mean_loss(params):
    # A gradient is added up in the dtype of what it is taken by, which is therefore wide.
    wide = jax.tree.map(_widened, params)

    def loss_of(batch):
      return _results.check_scalar("over_batches", loss_fn(_tree.cast_like(wide, params), batch))

    def add(total, batch):
      return total + loss_of(batch).astype(total.dtype), None

    shape = jax.eval_shape(loss_of, jax.tree.map(lambda x: x[0], stacked_batches))
    body = jax.checkpoint(add, prevent_cse=False)  # pyright: ignore[reportPrivateImportUsage]
    total, _ = jax.lax.scan(body, jnp.zeros((), _tree.wide_dtype(shape)), stacked_batches)
    return (total / shapes[0][0]).astype(shape.dtype)

  return mean_loss


def _widened(x: Any) -> jax.Array:
  """Returns a floating array in float32 or wider, and other arrays as they are."""
  is_floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
  return jnp.asarray(x, _tree.wide_dtype(x) if is_floating else None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class MeanOverBatches(Operator):
  """The mean of an operator over batches in memory, by a scan over the batches."""

  operator: Operator
  stacked_batches: Any

  def product(self, params: Params, vector: Params, *batch: Any) -> Params:
    def add(total, batch):
      product = self.operator.product(params, vector, batch)
      return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, product), None

    zeros = jax.tree.map(lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w)), params)
    total, _ = jax.lax.scan(add, zeros, self.stacked_batches)
    num_batches = jax.tree.leaves(self.stacked_batches)[0].shape[0]
    return _tree.cast_like(jax.tree.map(lambda x: x / num_batches, total), params)


@overload
def over_iterable(fn: Operator, batches: Iterable[Any]) -> Operator: ...
@overload
def over_iterable(fn: Callable[[Params, Any], Any], batches: Iterable[Any]) -> HostMean: ...
def over_iterable(fn: Any, batches: Any) -> Any:
  """Makes the mean of a loss or a gradient over batches that do not all fit in memory.

      mean(params) = mean over batches of fn(params, batch)

  ``fn`` is jitted once, when the mean is made, and the loop over the batches runs on the host; so
  make the mean before the loop over epochs. If stderr is a terminal, the loop shows its progress.
  The result cannot be traced, but all measures of ``flatopt.sharpness`` accept it; then they loop
  on the host, too. Values are added in float32 or wider. All batches have the same weight; for
  others, let ``fn`` multiply by one that comes with the batch. Cost: one call of ``fn`` per batch.

  Args:
    fn: ``(params, batch) -> scalar or pytree``: ``loss_fn``, or ``jax.grad(loss_fn)`` if a measure
      needs a gradient; or an operator whose functions take the batch as their last argument.
    batches: an iterable that can be iterated over many times, such as a list or a data loader, and
      not a generator; or a data set of batches with ``__getitem__`` and ``__len__``.

  Returns:
    ``mean(params)``, like the output of ``fn``; for an operator, the operator that is its mean.

  Raises:
    TypeError: ``batches`` can be iterated over only once; or, later, the result is traced.
    ValueError: when the result is called, ``batches`` is empty.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> loss_fn = lambda w, x: jnp.mean((x - w) ** 2)
    >>> batches = [jnp.array([0.0, 1.0]), jnp.array([2.0, 3.0])]
    >>> float(sharpness.over_iterable(jax.grad(loss_fn), batches)(jnp.array(1.0)))
    -1.0
  """
  has_random_access = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")
  is_iterable = isinstance(batches, Iterable)
  if not (is_iterable or has_random_access) or (is_iterable and iter(batches) is batches):
    raise TypeError(
      "over_iterable: batches must be iterable more than once, such as a list, or have"
      f" __getitem__ and __len__; got {type(batches).__name__}"
    )
  mean = HostMean(fn, batches)
  return MeanOverIterable(mean, _product) if isinstance(fn, Operator) else mean


def _product(operator: Operator, params: Params, vector: Params, batch: Any) -> Params:
  return operator.product(params, vector, batch)
