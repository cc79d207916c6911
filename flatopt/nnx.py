"""Flax NNX: the closures that ``nnx.Optimizer.update`` passes to sharpness-aware methods.

Not imported by ``import flatopt``; needs flax.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from flatopt import _batch_statistics
from flatopt._typing import GradFn


def batch_statistics(
  forward: Callable[[Any, Any], Any], model: nnx.Module, batches: Iterable[Any]
) -> None:
  """Sets BatchNorm's statistics to the mean of every batch's own at the model's params.

  As ``flatopt.linen.batch_statistics``, for a model at ``eval_params``: averages or slow
  weights. Each batch is run through once, the first one twice. Nothing but the statistics
  changes: what the passes do to random counts stays inside.

  Args:
    forward: ``(model, batch) -> anything``: one pass; it is compiled here.
    model: in training mode (``model.train()``); its ``nnx.BatchStat`` variables are set.
    batches: iterable of what ``forward`` takes as its batch; all of them count alike.

  Raises:
    ValueError: no batch, or a model that is not in training mode.

  Example:
    >>> import jax.numpy as jnp
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.BatchNorm(1, rngs=nnx.Rngs(0))
    >>> batches = [jnp.array([[1.0], [3.0]]), jnp.array([[4.0], [8.0]])]
    >>> flatopt.nnx.batch_statistics(lambda model, x: model(x), model, batches)
    >>> round(float(model.mean[0]), 4), round(float(model.var[0]), 4)
    (4.0, 2.5)
  """
  graphdef, statistics, rest = nnx.split(model, nnx.BatchStat, ...)

  def update_fn(rest, statistics, batch):
    merged = nnx.merge(graphdef, statistics, rest)
    forward(merged, batch)
    return nnx.as_pure(nnx.state(merged, nnx.BatchStat))

  pure = nnx.as_pure(rest), nnx.as_pure(statistics)
  nnx.update(model, _batch_statistics.batch_statistics(update_fn, *pure, batches))


def grad_fn(
  loss_fn: Callable[..., Any],
  model: nnx.Module,
  *args: Any,
  wrt: nnx.filterlib.Filter = nnx.Param,
  has_aux: bool = False,
) -> GradFn:
  """The gradient of ``loss_fn(model, *args)`` at other params of the model.

  Make it *before* the clean pass: it takes a snapshot of all that is not a param, so that
  dropout draws the same masks in both passes, and what its own passes do to BatchNorm's
  statistics or to random counts stays inside.

  Args:
    loss_fn: ``(model, *args) -> loss``, or ``(loss, aux)`` with ``has_aux``.
    model: the module, at the params of the clean pass.
    *args: the batch, and whatever else ``loss_fn`` takes.
    wrt: filter of the params to differentiate by, the same as ``nnx.Optimizer``'s.
    has_aux: as in ``nnx.grad``; the auxiliary output is dropped.

  Returns:
    ``grad_fn(params) -> grads`` on pure states, as ``nnx.Optimizer`` hands them out.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(
    ...   model, optax.chain(flatopt.sam(), optax.sgd(0.1)), wrt=nnx.Param
    ... )
    >>> @nnx.jit
    ... def train_step(model, optimizer, x):
    ...   loss_fn = lambda model, x: jnp.mean((model(x) - 1) ** 2)
    ...   grad_fn = flatopt.nnx.grad_fn(loss_fn, model, x)
    ...   loss, grads = nnx.value_and_grad(loss_fn)(model, x)
    ...   optimizer.update(model, grads, grad_fn=grad_fn)
    ...   return loss
    >>> x = jnp.eye(2)
    >>> bool(train_step(model, optimizer, x) > train_step(model, optimizer, x))
    True
  """
  graphdef, _, rest = nnx.split(model, wrt, ...)
  rest = nnx.as_pure(rest)

  def loss_at(params):
    # Merged anew in here, the variables belong to the trace that changes them.
    output = loss_fn(nnx.merge(graphdef, params, rest), *args)
    return output[0] if has_aux else output

  return jax.grad(loss_at)
