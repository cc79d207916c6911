"""Flax NNX: closures for sharpness-aware methods in ``nnx.Optimizer``, and evaluation.

This module needs flax. ``import flatopt`` does not import it.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, TypeVar

import jax
import jax.numpy as jnp
import optax

try:
  from flax import nnx
except ModuleNotFoundError as error:
  message = "flatopt.nnx needs flax: pip install 'flatopt[flax]'"
  raise ModuleNotFoundError(message) from error

from flatopt import _arguments, _batch_statistics, _devices, _results
from flatopt._typing import Args, GradFn, Params, Value
from flatopt.closures import _microbatches
from flatopt.opt_state import eval_params

Model = TypeVar("Model", bound=nnx.Module)
_as_pure = nnx.as_pure if hasattr(nnx, "as_pure") else nnx.pure  # before flax 0.12.7


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

  update_fn = functools.partial(_statistics_after, forward, graphdef, _as_pure(rest))
  nnx.update(model, _batch_statistics.mean_statistics(update_fn, _as_pure(statistics), batches))


@functools.partial(jax.jit, static_argnums=(0, 1))  # one program per forward and kind of model
def _statistics_after(forward, graphdef, rest, statistics, batch):
  model = nnx.merge(graphdef, statistics, rest)
  forward(model, batch)
  return _as_pure(nnx.state(model, nnx.BatchStat))


def value_and_grad(
  loss_fn: Callable[Concatenate[Model, Args], Value],
  *,
  wrt: nnx.filterlib.Filter = nnx.Param,
  has_aux: bool = False,
  transform: Callable[[nnx.State], nnx.State] | None = None,
) -> Callable[Concatenate[Model, Args], tuple[Value, nnx.State, Callable[[nnx.State], nnx.State]]]:
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
  name = "nnx.value_and_grad"
  _arguments.check_flag(name, "has_aux", has_aux)
  checked_loss_fn = _results.with_checked_aux(name, loss_fn, has_aux)
  change = transform or (lambda grads: grads)
  # Keyword arguments are passed as one dict: nnx.value_and_grad does not support keyword-only ones.
  clean_pass = nnx.value_and_grad(
    lambda model, args, kwargs: checked_loss_fn(model, *args, **kwargs),
    argnums=nnx.DiffState(0, wrt),
    has_aux=has_aux,
  )

  def step_fn(model: nnx.Module, *args: Any, **kwargs: Any) -> Any:
    loss_at, start, rest = _split(name, checked_loss_fn, (model, args, kwargs), wrt, has_aux)
    value, grads = clean_pass(model, args, kwargs)

    def grad_fn(params):
      # Inside shard_map the first gradient is per device if the params vary; so must this one be.
      params = _devices.varying_like(params, start)
      return change(jax.grad(lambda params: loss_at(params, rest)[0])(params))

    return value, _on_pure_state(change, grads), _of_states_like(name, start, grad_fn)

  return step_fn


def micro_value_and_grad(
  loss_fn: Callable[[Model, Any], Value],
  num_microbatches: int,
  *,
  wrt: nnx.filterlib.Filter = nnx.Param,
  has_aux: bool = False,
  transform: Callable[[nnx.State], nnx.State] | None = None,
) -> Callable[[Model, Any], tuple[Value, nnx.State, Callable[[nnx.State], nnx.State]]]:
  """``value_and_grad`` that accumulates gradients, with one microbatch in memory at a time.

  Value and gradients are the means of what ``value_and_grad`` returns on one microbatch after the
  other. The clean pass changes the model once per microbatch: the statistics of BatchNorm and the
  random counts. ``grad_fn`` repeats the same microbatches with the same dropout masks and changes
  nothing. Cost: one gradient of the whole batch, and one more per call of ``grad_fn``.

  Args:
    loss_fn: ``(model, microbatch) -> loss``, a mean over the examples of the microbatch; or
      ``(loss, aux)`` with ``has_aux``. Random streams must belong to the model.
    num_microbatches: number of equal parts to cut the batch into, >= 1, as in
      ``flatopt.closures.micro_value_and_grad``: example i is in part i modulo this number.
    wrt: filter of the params to differentiate with respect to, the same as in ``nnx.Optimizer``.
    has_aux: whether ``loss_fn`` also returns an auxiliary pytree of arrays.
    transform: function ``grads -> grads`` on a pure state, applied to both mean gradients.

  Returns:
    ``step_fn(model, batch) -> (value, grads, grad_fn)``. ``batch`` is a pytree of arrays with the
    same leading axis of examples. ``value`` is the mean loss, or ``(loss, aux)`` with
    ``has_aux``; then aux is stacked along a new leading axis of length ``num_microbatches``.

  Raises:
    ValueError, TypeError: as ``value_and_grad``; or ``num_microbatches`` does not divide the
      length of the batch, or ``loss_fn`` adds variables to the model.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    >>> loss_fn = lambda model, x: jnp.mean(model(x) ** 4)
    >>> step_fn = flatopt.nnx.micro_value_and_grad(loss_fn, num_microbatches=2)
    >>> x = jnp.arange(8.0).reshape(4, 2)
    >>> loss, grads, grad_fn = step_fn(model, x)
    >>> [round(float(m), 4) for m in model.mean]  # after means (2, 3) and (4, 5)
    [0.0598, 0.0797]
  """
  name = "nnx.micro_value_and_grad"
  _arguments.check_integer(name, "num_microbatches", num_microbatches, minimum=1)
  _arguments.check_flag(name, "has_aux", has_aux)
  checked_loss_fn = _results.with_checked_aux(name, loss_fn, has_aux)

  def step_fn(model: nnx.Module, batch: Any) -> Any:
    loss_at, start, rest = _split(name, checked_loss_fn, (model, (), {}), wrt, has_aux)

    def loss_of_part(params, rest, microbatch):
      loss, (aux, moved) = loss_at(params, rest, microbatch)
      if jax.tree.structure(moved) != jax.tree.structure(rest):
        raise ValueError(
          f"{name}: loss_fn adds variables to the model or removes some, such as with sow; return"
          " these values as aux instead (has_aux=True)"
        )
      return loss, (aux, moved)

    loss, aux, moved, grads, grad_fn = _microbatches.step(
      name,
      loss_of_part,
      start,
      rest,
      batch,
      num_microbatches,
      transform=transform or (lambda grads: grads),
    )
    nnx.update((model, (), {}), moved)
    grads = _on_pure_state(lambda _: grads, nnx.state(model, wrt))
    return (loss, aux) if has_aux else loss, grads, _of_states_like(name, start, grad_fn)

  return step_fn


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
  graphdef, params, rest = _as_pure(nnx.split(model, wrt, ...))
  slow = eval_params(_as_pure(opt_state), params)
  return nnx.merge(graphdef, *jax.tree.map(jnp.copy, (slow, rest)))


def _split(
  name: str,
  loss_fn: Callable[..., Any],
  arguments: tuple[nnx.Module, tuple[Any, ...], dict[str, Any]],
  wrt: nnx.filterlib.Filter,
  has_aux: bool,
) -> tuple[Callable[..., Any], nnx.State, nnx.State]:
  """Returns the loss as a pure function, its params and all other state, as they are now.

  The function is ``(params, rest, *batch) -> (loss, (aux, rest))``. Model, args and kwargs are
  split together, so that objects they share stay shared. ``name`` is for error messages.
  """
  try:
    is_param = nnx.filterlib.to_predicate(wrt)
  except (TypeError, ValueError):
    raise TypeError(
      f"{name}: wrt must be a filter of NNX, such as nnx.Param; got {_arguments.describe(wrt)}"
    ) from None
  selects = lambda path, x: path[0] == 0 and is_param(path[1:], x)
  graphdef, params, rest = nnx.split(arguments, selects, ...)
  if not jax.tree.leaves(params):
    raise ValueError(f"{name}: no variable of the model passes wrt={getattr(wrt, '__name__', wrt)}")

  def loss_at(params, rest, *batch):
    # Merged inside this function, so that the variables belong to the trace that changes them.
    merged = nnx.merge(graphdef, nnx.State({0: params.raw_mapping}), rest)
    model, args, kwargs = merged
    output = loss_fn(model, *args, *batch, **kwargs)
    loss, aux = output if has_aux else (output, None)
    return loss, (aux, _as_pure(nnx.split(merged, selects, ...)[2]))

  return loss_at, *_as_pure((params[0], rest))


def _of_states_like(name: str, start: nnx.State, grad_fn: GradFn) -> GradFn:
  """Returns ``grad_fn`` for states with or without variables, whose structure it checks."""

  def checked_grad_fn(params: Params) -> Params:
    if jax.tree.structure(params) != jax.tree.structure(start):
      raise ValueError(
        f"{name}: grad_fn got {jax.tree.structure(params)}; the params that wrt selects are"
        f" {jax.tree.structure(start)}: pass the same wrt to nnx.Optimizer"
      )
    return grad_fn(params)

  return lambda params: _on_pure_state(checked_grad_fn, params)


def _on_pure_state(fn: Callable[[Params], Params], state: Params) -> Params:
  """Applies ``fn`` to the state without its variables, and puts the result into its structure."""
  return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(fn(_as_pure(state))))
