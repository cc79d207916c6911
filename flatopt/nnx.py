"""Flax NNX: closures for sharpness-aware methods in ``nnx.Optimizer``, and evaluation.

This module needs flax. ``import flatopt`` does not import it.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, TypeVar, cast

import jax
import jax.numpy as jnp
import optax

try:
  from flax import nnx
except ModuleNotFoundError as error:
  message = "flatopt.nnx needs flax: pip install 'flatopt[flax]'"
  raise ModuleNotFoundError(message) from error

from flatopt import _arguments, _results, closures
from flatopt import _pure_nnx as _pure
from flatopt._typing import Args, Value
from flatopt.closures.micro_value_and_grad import check_only_a_batch as _check_only_a_batch
from flatopt.closures.micro_value_and_grad import microbatch_step as _microbatch_step
from flatopt.linen import _mean_statistics
from flatopt.opt_state import eval_params

Model = TypeVar("Model", bound=nnx.Module)


def batch_statistics(
  forward: Callable[[Any, Any], Any], model: nnx.Module, batches: Iterable[Any]
) -> None:
  """Sets the statistics of BatchNorm to those at the model's params: their mean over the batches.

  Use it for a model at ``eval_params``, because the statistics of training belong to other params.
  It works like ``flatopt.linen.batch_statistics``. Only the statistics of the model change, and no
  random counts. Cost: one forward pass per batch, and one more for the first batch.

  Args:
    forward: ``(model, batch) -> anything``: one forward pass. It is compiled.
    model: the model, in training mode (``model.train()``). Its ``nnx.BatchStat`` variables are set.
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

  update_fn = functools.partial(_pure.statistics_after, forward, graphdef, _pure.as_pure(rest))
  nnx.update(model, _mean_statistics(update_fn, _pure.as_pure(statistics), batches))


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
    transform: as in ``flatopt.closures.value_and_grad``; it gets pure states.

  Returns:
    ``step_fn(model, *args, **kwargs) -> (value, grads, grad_fn)``. The arguments may be or contain
    NNX objects (``nnx.Rngs``, other modules) and everything else that ``nnx.split`` accepts.
    ``value`` and ``grads`` are those of ``nnx.value_and_grad``. ``grad_fn`` takes and returns
    states like the params, with or without variables.

  Raises:
    TypeError: ``has_aux`` is no bool or does not fit ``loss_fn``, or ``wrt`` is no filter.
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
  loss_and_aux = _results.with_aux(name, loss_fn, has_aux)

  def step_fn(model: nnx.Module, *args: Any, **kwargs: Any) -> Any:
    nodes = model, args, kwargs
    loss_at, start, *rest = _pure.split(name, loss_and_aux, nodes, wrt)
    pure_step = closures.value_and_grad(loss_at, has_aux=True, transform=transform)
    (loss, (aux, moved)), grads, grad_fn = pure_step(start, *rest)
    nnx.update(nodes, moved)
    grads = _pure.like(nnx.state(model, wrt), grads)
    return (loss, aux) if has_aux else loss, grads, _pure.of_states_like(name, start, grad_fn)

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

  The clean pass changes the model (BatchNorm's statistics, random counts) once per microbatch;
  ``grad_fn`` repeats the same microbatches with the same dropout masks and changes nothing. Cost:
  one gradient of the whole batch, and one more per call of ``grad_fn``.

  Args:
    loss_fn: ``(model, microbatch) -> loss``, a mean over the examples of the microbatch; or
      ``(loss, aux)`` with ``has_aux``. Random streams must belong to the model.
    num_microbatches: number of equal parts, >= 1, as in ``closures.micro_value_and_grad``.
    wrt, has_aux, transform: as in ``value_and_grad``; aux is a pytree of arrays.

  Returns:
    ``step_fn(model, batch) -> (value, grads, grad_fn)``, as ``closures.micro_value_and_grad``:
    aux is stacked along a new leading axis of length ``num_microbatches``.

  Raises:
    ValueError, TypeError: as ``value_and_grad``; or ``num_microbatches`` does not divide the
      length of the batch, or ``loss_fn`` adds variables to the model.

  Example:
    >>> import jax.numpy as jnp
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    >>> loss_fn = lambda model, x: jnp.mean(model(x) ** 4)
    >>> step_fn = flatopt.nnx.micro_value_and_grad(loss_fn, num_microbatches=2)
    >>> loss, grads, grad_fn = step_fn(model, jnp.arange(8.0).reshape(4, 2))
    >>> [round(float(m), 4) for m in model.mean]  # after means (2, 3) and (4, 5)
    [0.0598, 0.0797]
  """
  name = "nnx.micro_value_and_grad"
  _arguments.check_integer(name, "num_microbatches", num_microbatches, minimum=1)
  loss_and_aux = _results.with_aux(name, loss_fn, has_aux)

  def step_fn(model: nnx.Module, batch: Any, *others: Any, **named_others: Any) -> Any:
    _check_only_a_batch(name, "model", *others, **named_others)
    nodes = model, (), {}
    loss_at, start, variables, arrays = _pure.split(name, loss_and_aux, nodes, wrt)

    def loss_of_part(params, variables, microbatch):
      loss, (aux, moved) = loss_at(params, variables, arrays, microbatch)
      if jax.tree.structure(moved) != jax.tree.structure(variables):
        raise ValueError(
          f"{name}: loss_fn adds variables to the model or removes some, such as with sow; return"
          " these values as aux instead (has_aux=True)"
        )
      return loss, (aux, moved)

    loss, aux, moved, grads, grad_fn = _microbatch_step(
      name, loss_of_part, start, variables, batch, num_microbatches, transform
    )
    nnx.update(nodes, moved)
    grads = _pure.like(nnx.state(model, wrt), grads)
    return (loss, aux) if has_aux else loss, grads, _pure.of_states_like(name, start, grad_fn)

  return step_fn


def sharp_loss(
  loss_fn: Callable[Args, Value],
  method: optax.GradientTransformation | None = None,
  *,
  wrt: nnx.filterlib.Filter = nnx.Param,
  has_aux: bool = False,
) -> Callable[Args, Value]:
  """``flatopt.closures.sharp_loss`` for modules, to use with ``nnx.value_and_grad`` and ``nnx.grad``.

  The model moves on once: the pass at the perturbed params uses the same dropout masks and changes
  nothing. Cost: two gradients where it is differentiated, one forward pass where it is evaluated.

  Args:
    loss_fn: ``(model, *args, **kwargs) -> loss``, or ``(loss, aux)`` with ``has_aux``.
    method: as in ``flatopt.closures.sharp_loss``; its params are those that ``wrt`` selects.
    wrt, has_aux: as in ``value_and_grad``. Aux is not differentiated.

  Returns:
    A function with the signature of ``loss_fn``.

  Raises:
    TypeError, ValueError: as ``flatopt.closures.sharp_loss`` and ``value_and_grad``.

  Example:
    >>> import jax.numpy as jnp, flatopt
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> loss_fn = lambda model, x: jnp.mean((model(x) - 1) ** 2)
    >>> sharp_loss = flatopt.nnx.sharp_loss(loss_fn, flatopt.sam(rho=0.1))
    >>> loss, grads = nnx.value_and_grad(sharp_loss)(model, jnp.eye(2))
    >>> grads["kernel"].shape
    (2, 1)
  """
  name = "nnx.sharp_loss"
  loss_and_aux = _results.with_aux(name, loss_fn, has_aux)

  def loss_of_model(model: nnx.Module, *args: Any, **kwargs: Any) -> Any:
    nodes = model, args, kwargs
    loss_at, *states = _pure.split(name, loss_and_aux, nodes, wrt)
    loss, (aux, moved) = closures.sharp_loss(loss_at, method, has_aux=True)(*states)
    nnx.update(nodes, moved)
    return (loss, aux) if has_aux else loss

  if not isinstance(loss_fn, functools.partial):  # NNX reads no signature of a partial either
    functools.update_wrapper(loss_of_model, loss_fn, updated=())  # it binds arguments by name
  return cast(Callable[Args, Value], loss_of_model)


def eval_model(
  opt_state: optax.OptState, model: nnx.Module, *, wrt: nnx.filterlib.Filter = nnx.Param
) -> nnx.Module:
  """Returns a copy of the model at the params to evaluate at: ``flatopt.eval_params`` for modules.

  Everything except the params is copied from ``model``, also the statistics of BatchNorm. Its
  method ``eval()`` switches dropout off. A later step may donate its buffers. Cost: no gradient.

  Args:
    opt_state: ``optimizer.opt_state`` of an ``nnx.Optimizer``, with or without variables.
    model: the model that is trained.
    wrt: filter of the params that are trained, the same as in ``nnx.Optimizer``.

  Returns:
    A module like ``model``.

  Raises:
    TypeError: the state has lost its types, as in a checkpoint restored without a target.

  Example:
    >>> import optax, flatopt
    >>> import flatopt.nnx
    >>> from flax import nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, flatopt.lookahead(optax.sgd(0.1)), wrt=nnx.Param)
    >>> flatopt.nnx.eval_model(optimizer.opt_state, model).kernel.shape
    (2, 1)
  """
  graphdef, params, rest = _pure.as_pure(nnx.split(model, wrt, ...))
  slow = eval_params(_pure.as_pure(opt_state), params)
  return nnx.merge(graphdef, *jax.tree.map(jnp.copy, (slow, rest)))
