"""The mean of a loss or a gradient over many batches: in one program, or by a loop on the host."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import jax
import jax.numpy as jnp

from flatopt import _results
from flatopt._typing import Params
from flatopt.sharpness.host import HostMean
from flatopt.sharpness.operator import MeanOverBatches, MeanOverIterable, Operator


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
  products, and only the activations of one batch are in memory at a time. Cost: a gradient needs
  one more forward pass than usual, because of ``jax.checkpoint``.

  Args:
    loss_fn: ``(params, batch) -> scalar``, a mean over the examples of the batch; or an operator
      whose functions take the batch as their last argument, such as
      ``gauss_newton(logits_fn, loss_fn)``.
    stacked_batches: pytree of arrays. The length of their leading axis is the number of batches,
      >= 1.

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
  num_batches = shapes[0][0]
  if isinstance(loss_fn, Operator):
    return MeanOverBatches(loss_fn, stacked_batches, num_batches)

  @jax.jit  # so that it is compiled once when it is called or differentiated outside jit
  def mean_loss(params, stacked_batches):
    loss_at = lambda *args: _results.check_scalar("over_batches", loss_fn(*args))

    def add(total, batch):
      return total + loss_at(params, batch), None

    first = jax.tree.map(lambda x: x[0], stacked_batches)
    dtype = jax.eval_shape(loss_at, params, first).dtype
    body = jax.checkpoint(add, prevent_cse=False)  # pyright: ignore[reportPrivateImportUsage]
    total, _ = jax.lax.scan(body, jnp.zeros((), dtype), stacked_batches)
    return total / num_batches

  return lambda params: mean_loss(params, stacked_batches)


@overload
def over_iterable(fn: Operator, batches: Iterable[Any]) -> Operator: ...
@overload
def over_iterable(fn: Callable[[Params, Any], Any], batches: Iterable[Any]) -> HostMean: ...
def over_iterable(fn: Any, batches: Iterable[Any]) -> Any:
  """Makes the mean of a loss or a gradient over batches that do not all fit in memory.

      mean(params) = mean over batches of fn(params, batch)

  ``fn`` is jitted, and the loop over the batches runs on the host. If stderr is a terminal, the
  loop shows its progress. The result cannot be traced, but all measures of ``flatopt.sharpness``
  accept it; then they loop on the host, too. All batches have the same weight, whatever their
  size. Compiled programs are kept for the function object ``fn``. So call ``jax.grad(loss_fn)``
  once and pass the same object in every epoch; a second call of ``jax.grad`` makes another object,
  which is compiled again. Cost: one call of ``fn`` per batch.

  Args:
    fn: ``(params, batch) -> scalar or pytree``: ``loss_fn``, or ``jax.grad(loss_fn)`` if a measure
      needs a gradient; or an operator whose functions take the batch as their last argument,
      such as ``gauss_newton(logits_fn, loss_fn)``.
    batches: an iterable that can be iterated over many times: a list or a data loader, not a
      generator.

  Returns:
    ``mean(params)``, a scalar or pytree like the output of ``fn``; for an operator, the operator
    that is its mean.

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
  if not isinstance(batches, Iterable) or iter(batches) is batches:
    raise TypeError(
      "over_iterable: batches must be iterable more than once, such as a list; got"
      f" {type(batches).__name__}"
    )
  if isinstance(fn, Operator):
    return MeanOverIterable(fn, batches)
  return HostMean(fn, batches)
