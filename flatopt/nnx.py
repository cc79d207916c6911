"""Flax NNX: steps and closures for sharpness-aware methods in ``nnx.Optimizer``, and evaluation.

Not imported by ``import flatopt``; needs flax.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flatopt import _arguments, _batch_statistics, _devices, introspection
from flatopt._typing import GradFn, Params


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


def value_and_grad(
  loss_fn: Callable[..., Any],
  *,
  wrt: nnx.filterlib.Filter = nnx.Param,
  has_aux: bool = False,
  transform: Callable[[Params], Params] | None = None,
) -> Callable[..., tuple[Any, Params, GradFn]]:
  """``nnx.value_and_grad`` that also returns the closure: ``grad_fn(p)`` at other params.

  The model and all NNX objects among the arguments move on once, by the clean pass. The closure
  sees them as they were before it: it draws the same dropout masks, and what its own passes do to
  BatchNorm's statistics or to random counts stays inside. Cost: one gradient, and one more for
  each closure call.

  Args:
    loss_fn: ``(model, *args, **kwargs) -> loss``, or ``(loss, aux)`` with ``has_aux``.
    wrt: filter of the params to differentiate by, the same as ``nnx.Optimizer``'s.
    has_aux: as in ``nnx.value_and_grad``. The closure drops aux.
    transform: ``grads -> grads`` on a pure state, applied to both gradients: clipping, casts,
      unscaling, ``pmean``.

  Returns:
    ``step_fn(model, *args, **kwargs) -> (value, grads, grad_fn)``. Arguments may be or hold NNX
    objects (``nnx.Rngs``, other modules) and anything else that ``nnx.split`` takes. ``grads``
    are as ``nnx.value_and_grad`` gives them; ``grad_fn`` takes and returns states like the
    params, with variables or without.

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
    ...   loss, grads, grad_fn = flatopt.nnx.value_and_grad(loss_fn)(model, x)
    ...   optimizer.update(model, grads, grad_fn=grad_fn)
    ...   return loss
    >>> x = jnp.eye(2)
    >>> bool(train_step(model, optimizer, x) > train_step(model, optimizer, x))
    True
  """
  _arguments.check_flag("nnx.value_and_grad", "has_aux", has_aux)
  transform = transform or (lambda grads: grads)
  # Keyword arguments travel as one dict, because nnx.value_and_grad takes no keyword-only ones.
  clean_pass = nnx.value_and_grad(
    lambda model, args, kwargs: loss_fn(model, *args, **kwargs),
    argnums=nnx.DiffState(0, wrt),
    has_aux=has_aux,
  )

  def step_fn(model: nnx.Module, *args: Any, **kwargs: Any) -> tuple[Any, Params, GradFn]:
    loss_at, counts = _snapshot(loss_fn, model, args, kwargs, wrt, has_aux)
    start = nnx.as_pure(nnx.state(model, wrt))
    value, grads = clean_pass(model, args, kwargs)

    def gradient(params: Params) -> Params:
      # Inside shard_map, the first gradient is per device where its params vary; so is this one.
      params = _devices.varying_like(params, start)
      return transform(jax.grad(lambda params: loss_at(params, counts)[0])(params))

    return value, _on_pure_state(transform, grads), lambda p: _on_pure_state(gradient, p)

  return step_fn


def grad_fn(
  loss_fn: Callable[..., Any],
  model: nnx.Module,
  *args: Any,
  wrt: nnx.filterlib.Filter = nnx.Param,
  has_aux: bool = False,
  **kwargs: Any,
) -> GradFn:
  """The gradient of ``loss_fn(model, *args, **kwargs)`` at other params of the model.

  For training loops that keep their own clean pass; ``value_and_grad`` does both. Make it before
  or after the clean pass, which has to run on ``model`` itself: the closure draws the masks of
  that pass. It takes a snapshot of all that is not a param, random counts included. Where no
  count has moved by the time that it is called, the clean pass came first, and the closure sets
  the counts back by what one pass adds to them; outside ``jit`` that costs a forward pass. Where
  the clean pass runs on a copy (``nnx.merge`` inside ``jax.grad``), differentiate that loss by
  ``jax.grad`` in the closure, too.

  Args:
    loss_fn: ``(model, *args, **kwargs) -> loss``, or ``(loss, aux)`` with ``has_aux``.
    model: the module, at the params of the clean pass.
    *args: the batch, and whatever else ``loss_fn`` takes, NNX objects (``nnx.Rngs``) included.
    wrt: filter of the params to differentiate by, the same as ``nnx.Optimizer``'s.
    has_aux: as in ``nnx.grad``; the auxiliary output is dropped.
    **kwargs: keyword arguments of ``loss_fn``.

  Returns:
    ``grad_fn(params) -> grads`` on states like the params, with variables or without.

  Example:
    >>> import jax.numpy as jnp, flatopt
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> loss_fn = lambda model, x, *, rngs: jnp.sum(model(x) * rngs.normal((2, 1)))
    >>> grad_fn = flatopt.nnx.grad_fn(loss_fn, model, jnp.eye(2), rngs=nnx.Rngs(1))
    >>> grad_fn(nnx.state(model, nnx.Param))["kernel"].shape
    (2, 1)
  """
  _arguments.check_flag("nnx.grad_fn", "has_aux", has_aux)
  loss_at, counts = _snapshot(loss_fn, model, args, kwargs, wrt, has_aux)

  def gradient(params: Params) -> Params:
    live = nnx.as_pure(nnx.state((model, args, kwargs), nnx.RngCount))
    start = counts
    if all(a is b for a, b in zip(*map(jax.tree.leaves, (live, counts)), strict=True)):
      start = _set_back(counts, loss_at(params, counts)[1])
    return jax.grad(lambda params: loss_at(params, start)[0])(params)

  return lambda params: _on_pure_state(gradient, params)


def eval_model(
  opt_state: optax.OptState, model: nnx.Module, *, wrt: nnx.filterlib.Filter = nnx.Param
) -> nnx.Module:
  """A copy of the model at the params to evaluate at: ``flatopt.eval_params`` for modules.

  Statistics of BatchNorm and all else are the trained model's; ``copy.eval()`` switches dropout
  off. All buffers are copied, so that a later step may donate its own. Cost: no gradient.

  Args:
    opt_state: ``optimizer.opt_state`` of an ``nnx.Optimizer``, or the same without variables.
    model: the module that is trained.
    wrt: filter of the params that are trained, the same as ``nnx.Optimizer``'s.

  Returns:
    A module like ``model``.

  Example:
    >>> import optax, flatopt
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, flatopt.lookahead(optax.sgd(0.1)), wrt=nnx.Param)
    >>> flatopt.nnx.eval_model(optimizer.opt_state, model).kernel.shape
    (2, 1)
  """
  graphdef, params, rest = nnx.as_pure(nnx.split(model, wrt, ...))
  slow = introspection.eval_params(nnx.as_pure(opt_state), params)
  return nnx.merge(graphdef, *jax.tree.map(jnp.copy, (slow, rest)))


def _snapshot(
  loss_fn: Callable[..., Any],
  model: nnx.Module,
  args: tuple[Any, ...],
  kwargs: dict[str, Any],
  wrt: nnx.filterlib.Filter,
  has_aux: bool,
) -> tuple[Callable[[Params, Params], tuple[jax.Array, Params]], Params]:
  """``loss_at(params, counts) -> (loss, new counts)`` at all other state as it is now, and counts.

  All arguments are split together, so that what they share stays shared.
  """
  is_param = nnx.filterlib.to_predicate(wrt)
  graphdef, _, counts, rest = nnx.split(
    (model, args, kwargs),
    lambda path, x: path[0] == 0 and is_param(path[1:], x),
    nnx.RngCount,
    ...,
  )
  counts, rest = nnx.as_pure((counts, rest))

  def loss_at(params: Params, counts: Params) -> tuple[jax.Array, Params]:
    # Merged anew in here, the variables belong to the trace that changes them.
    arguments = nnx.merge(graphdef, nnx.State({0: params}), counts, rest)
    model, args, kwargs = arguments
    output = loss_fn(model, *args, **kwargs)
    counts = nnx.as_pure(nnx.state(arguments, nnx.RngCount))
    return output[0] if has_aux else output, counts

  return loss_at, counts


def _set_back(counts: Params, after_another_pass: Params) -> Params:
  """The counts one pass ago; as they are where there was none."""

  def one_pass_ago(count, next_count):
    step = next_count - count
    return jnp.where(count < step, count, count - step)

  return jax.tree.map(one_pass_ago, counts, after_another_pass)


def _on_pure_state(fn: Callable[[Params], Params], state: Params) -> Params:
  """Applies ``fn`` to the state without variables, and gives the result the state's structure."""
  return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(fn(nnx.as_pure(state))))
