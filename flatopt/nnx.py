"""Flax NNX: closures for sharpness-aware methods in ``nnx.Optimizer``, and evaluation.

This module needs flax. ``import flatopt`` does not import it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

try:
  from flax import nnx
except ModuleNotFoundError as error:
  message = "flatopt.nnx needs flax: pip install 'flatopt[flax]'"
  raise ModuleNotFoundError(message) from error

from flatopt import _arguments, _batch_statistics, _devices, _results, introspection
from flatopt._typing import GradFn, Params


def batch_statistics(
  forward: Callable[[Any, Any], Any], model: nnx.Module, batches: Iterable[Any]
) -> None:
  """Sets the statistics of BatchNorm to those at the model's params: their mean over the batches.

  Use it for a model at ``eval_params`` (averages or slow weights), because the statistics of
  training belong to other params. It works like ``flatopt.linen.batch_statistics``. Only the
  statistics of the model change; its random counts, for example, do not. Cost: one forward pass
  per batch, and one more for the first batch.

  Args:
    forward: ``(model, batch) -> anything``: one forward pass. It is compiled.
    model: the model, in training mode (``model.train()``). Its ``nnx.BatchStat`` variables are
      set.
    batches: iterable of batches for ``forward``; each has the same weight.

  Raises:
    ValueError: ``batches`` is empty, or the model is not in training mode.

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
  """``nnx.value_and_grad`` that also returns ``grad_fn``, the gradient at other params.

  The clean pass changes the model and the NNX objects among the arguments once, as
  ``nnx.value_and_grad`` does. ``grad_fn`` uses them as they were before the clean pass, so it
  draws the same dropout masks. It changes neither BatchNorm's statistics nor random counts. Cost:
  one gradient, and one more per call of ``grad_fn``.

  Args:
    loss_fn: ``(model, *args, **kwargs) -> loss``, or ``(loss, aux)`` with ``has_aux``.
    wrt: filter of the params to differentiate with respect to, the same as in ``nnx.Optimizer``.
    has_aux: as in ``nnx.value_and_grad``. ``grad_fn`` drops aux.
    transform: function ``grads -> grads`` on a pure state, applied to both gradients: clipping,
      casts, unscaling, ``pmean``.

  Returns:
    ``step_fn(model, *args, **kwargs) -> (value, grads, grad_fn)``. The arguments may be or contain
    NNX objects (``nnx.Rngs``, other modules) and everything else that ``nnx.split`` accepts.
    ``value`` and ``grads`` are those of ``nnx.value_and_grad``. ``grad_fn`` takes and returns
    states like the params, with or without variables.

  Raises:
    TypeError: ``has_aux`` is not a bool, ``loss_fn`` does not return what it says, or ``wrt`` is
      not a filter.
    ValueError: no variable of the model passes ``wrt``.

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
  loss_fn = _results.with_checked_aux("nnx.value_and_grad", loss_fn, has_aux)
  transform = transform or (lambda grads: grads)
  # Keyword arguments are passed as one dict: nnx.value_and_grad does not support keyword-only ones.
  clean_pass = nnx.value_and_grad(
    lambda model, args, kwargs: loss_fn(model, *args, **kwargs),
    argnums=nnx.DiffState(0, wrt),
    has_aux=has_aux,
  )

  def step_fn(model: nnx.Module, *args: Any, **kwargs: Any) -> tuple[Any, Params, GradFn]:
    loss_at, counts = _snapshot("nnx.value_and_grad", loss_fn, model, args, kwargs, wrt, has_aux)
    start = nnx.as_pure(nnx.state(model, wrt))
    value, grads = clean_pass(model, args, kwargs)

    def gradient(params: Params) -> Params:
      if jax.tree.structure(params) != jax.tree.structure(start):
        raise ValueError(
          f"nnx.value_and_grad: grad_fn got {jax.tree.structure(params)}; the params that wrt"
          f" selects are {jax.tree.structure(start)}: pass the same wrt to nnx.Optimizer"
        )
      # Inside shard_map the first gradient is per device if the params vary; so must this one be.
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
  """Makes ``grad_fn``, the gradient of ``loss_fn(model, *args, **kwargs)`` at other params.

  Use it in a training loop that has its own clean pass; otherwise use ``value_and_grad``. You can
  make ``grad_fn`` before or after the clean pass. The clean pass must run on ``model`` itself, and
  ``grad_fn`` draws the same dropout masks. It keeps a snapshot of everything that is not a param,
  also of the random counts. If no random count has changed when ``grad_fn`` is called, the
  snapshot was taken after the clean pass; then ``grad_fn`` subtracts from the counts what one pass
  adds, which outside ``jit`` costs one forward pass. If your clean pass runs on a copy of the
  model (``nnx.merge`` inside ``jax.grad``), write the closure with ``jax.grad`` of the same loss
  instead. Cost: one gradient per call of ``grad_fn``.

  Args:
    loss_fn: ``(model, *args, **kwargs) -> loss``, or ``(loss, aux)`` with ``has_aux``.
    model: the model, at the params of the clean pass.
    *args: the batch and the other arguments of ``loss_fn``, which may be NNX objects
      (``nnx.Rngs``).
    wrt: filter of the params to differentiate with respect to, the same as in ``nnx.Optimizer``.
    has_aux: as in ``nnx.grad``. ``grad_fn`` drops aux.
    **kwargs: keyword arguments of ``loss_fn``.

  Returns:
    ``grad_fn(params) -> grads`` on states like the params, with or without variables.

  Raises:
    TypeError: ``has_aux`` is not a bool, ``loss_fn`` does not return what it says, or ``wrt`` is
      not a filter.
    ValueError: no variable of the model passes ``wrt``.

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
  loss_fn = _results.with_checked_aux("nnx.grad_fn", loss_fn, has_aux)
  loss_at, counts = _snapshot("nnx.grad_fn", loss_fn, model, args, kwargs, wrt, has_aux)

  def gradient(params: Params) -> Params:
    counts_now = nnx.as_pure(nnx.state((model, args, kwargs), nnx.RngCount))
    start = counts
    # The same arrays: no pass has run since the snapshot, so the clean pass ran before it.
    if all(a is b for a, b in zip(*map(jax.tree.leaves, (counts_now, counts)), strict=True)):
      start = _counts_before_pass(counts, loss_at(params, counts)[1])
    return jax.grad(lambda params: loss_at(params, start)[0])(params)

  return lambda params: _on_pure_state(gradient, params)


def eval_model(
  opt_state: optax.OptState, model: nnx.Module, *, wrt: nnx.filterlib.Filter = nnx.Param
) -> nnx.Module:
  """Returns a copy of the model at the params to evaluate at: ``flatopt.eval_params`` for modules.

  Everything except the params is copied from ``model``, also the statistics of BatchNorm. Call
  ``eval()`` on the copy to switch dropout off. All buffers are copied, so a later step may donate
  its own. Cost: no gradient.

  Args:
    opt_state: ``optimizer.opt_state`` of an ``nnx.Optimizer``, with or without variables.
    model: the model that is trained.
    wrt: filter of the params that are trained, the same as in ``nnx.Optimizer``.

  Returns:
    A module like ``model``.

  Raises:
    TypeError: the state has lost its types, for example in a checkpoint that was restored
      without a target.

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
  name: str,
  loss_fn: Callable[..., Any],
  model: nnx.Module,
  args: tuple[Any, ...],
  kwargs: dict[str, Any],
  wrt: nnx.filterlib.Filter,
  has_aux: bool,
) -> tuple[Callable[[Params, Params], tuple[jax.Array, Params]], Params]:
  """Returns ``loss_at(params, counts) -> (loss, new counts)``, and the random counts of now.

  ``loss_at`` uses all other state as it is now. The arguments are split together, so that objects
  they share stay shared. ``name`` is for error messages.
  """
  try:
    is_param = nnx.filterlib.to_predicate(wrt)
  except (TypeError, ValueError):
    raise TypeError(
      f"{name}: wrt must be a filter of NNX, such as nnx.Param; got {_arguments.describe(wrt)}"
    ) from None
  graphdef, params, counts, rest = nnx.split(
    (model, args, kwargs),
    lambda path, x: path[0] == 0 and is_param(path[1:], x),
    nnx.RngCount,
    ...,
  )
  if not jax.tree.leaves(params):
    raise ValueError(f"{name}: no variable of the model passes wrt={getattr(wrt, '__name__', wrt)}")
  counts, rest = nnx.as_pure((counts, rest))

  def loss_at(params: Params, counts: Params) -> tuple[jax.Array, Params]:
    # Merged inside this function, so that the variables belong to the trace that changes them.
    arguments = nnx.merge(graphdef, nnx.State({0: params}), counts, rest)
    model, args, kwargs = arguments
    output = loss_fn(model, *args, **kwargs)
    counts = nnx.as_pure(nnx.state(arguments, nnx.RngCount))
    return output[0] if has_aux else output, counts

  return loss_at, counts


def _counts_before_pass(counts: Params, counts_after_next_pass: Params) -> Params:
  """Returns the random counts before the last pass, or ``counts`` if there was no pass yet."""

  def subtract(count, next_count):
    step = next_count - count
    return jnp.where(count < step, count, count - step)

  return jax.tree.map(subtract, counts, counts_after_next_pass)


def _on_pure_state(fn: Callable[[Params], Params], state: Params) -> Params:
  """Applies ``fn`` to the state without its variables, and puts the result into its structure."""
  return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(fn(nnx.as_pure(state))))
