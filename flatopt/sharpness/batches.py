"""The mean of a loss or a gradient over many batches: in one program, or on the host."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import jax
import jax.numpy as jnp

from flatopt import _arguments
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
  """The mean of ``loss_fn`` over batches that lie in memory, as a function of the params.

      loss(params) = mean over i of loss_fn(params, batch_i)

  A rematerialised ``lax.scan``: loss, gradient and Hessian-vector product can be jitted, and
  hold one batch's activations at a time, however many batches there are. Cost: a gradient
  takes one more forward pass, as ``jax.checkpoint`` does.

  Args:
    loss_fn: ``(params, batch) -> scalar``, a mean over the batch's examples; or an operator
      whose functions take the batch as their last argument, such as
      ``gauss_newton(logits_fn, loss_fn)``.
    stacked_batches: pytree of arrays whose leading axis counts the batches, >= 1.

  Returns:
    ``loss(params) -> scalar``; of an operator, the operator that is its mean.

  Raises:
    ValueError: no batches, or leaves that disagree on their number.

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

  @jax.jit  # compiled once, also where it is called or differentiated outside jit
  def mean_loss(params, stacked_batches):
    def add(total, batch):
      return total + _arguments.check_scalar("over_batches", loss_fn(params, batch)), None

    first = jax.tree.map(lambda x: x[0], stacked_batches)
    dtype = jax.eval_shape(loss_fn, params, first).dtype
    body = jax.checkpoint(add, prevent_cse=False)  # pyright: ignore[reportPrivateImportUsage]
    total, _ = jax.lax.scan(body, jnp.zeros((), dtype), stacked_batches)
    return total / num_batches

  return lambda params: mean_loss(params, stacked_batches)


@overload
def over_iterable(fn: Operator, batches: Iterable[Any]) -> Operator: ...
@overload
def over_iterable(fn: Callable[[Params, Any], Any], batches: Iterable[Any]) -> HostMean: ...
def over_iterable(fn: Any, batches: Iterable[Any]) -> Any:
  """The mean of a loss or a gradient over batches that do not fit in memory.

      mean(params) = mean over batches of fn(params, batch)

  ``fn`` is jitted, the loop runs on the host, and where stderr is a terminal it shows how far
  it is. The result cannot be traced, but every measure of ``flatopt.sharpness`` takes it,
  and then loops on the host, too. Batches count equally, whatever their size. Programs are
  kept for ``fn``: call ``jax.grad(loss_fn)`` once and pass the same function in every epoch,
  and nothing compiles again; each call of ``jax.grad`` makes a new function.

  Args:
    fn: ``(params, batch) -> scalar or pytree``: ``loss_fn``, or ``jax.grad(loss_fn)`` where
      a measure wants a gradient; or an operator whose functions take the batch as their
      last argument, such as ``gauss_newton(logits_fn, loss_fn)``.
    batches: what can be iterated over again and again: a list or a loader, no generator.

  Returns:
    ``mean(params)``, of what ``fn`` returns; of an operator, the operator that is its mean.

  Raises:
    TypeError: an iterator that is spent after one pass; tracing the result.
    ValueError: no batches (when it is called).

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
