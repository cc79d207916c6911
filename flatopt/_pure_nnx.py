"""NNX modules as pure functions of states, with and without variables."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from flatopt import _arguments
from flatopt._typing import GradFn, Params

as_pure = nnx.as_pure if hasattr(nnx, "as_pure") else nnx.pure  # before flax 0.12.7


def split(
  name: str,
  loss_and_aux: Callable[..., Any],
  arguments: tuple[nnx.Module, tuple[Any, ...], dict[str, Any]],
  wrt: nnx.filterlib.Filter,
) -> tuple[Callable[..., Any], nnx.State, nnx.State, nnx.State]:
  """Returns the loss as a pure function, and its params, other variables and arrays of now.

  The function is ``(params, variables, arrays, *batch) -> (loss, (aux, variables))``. Model, args
  and kwargs are split together, so that objects they share stay shared. ``name`` is for errors.
  """
  try:
    is_param = nnx.filterlib.to_predicate(wrt)
  except (TypeError, ValueError):
    raise TypeError(
      f"{name}: wrt must be a filter of NNX, such as nnx.Param; got {_arguments.describe(wrt)}"
    ) from None
  selects = lambda path, x: path[0] == 0 and is_param(path[1:], x)
  graphdef, *states = nnx.split(arguments, selects, nnx.Variable, ...)
  params, variables, arrays = as_pure(tuple(states))
  of_arguments = jax.tree.structure(params)  # with the place of the model among the arguments
  if not jax.tree.leaves(params):
    raise ValueError(f"{name}: no variable of the model passes wrt={getattr(wrt, '__name__', wrt)}")

  def loss_at(params, variables, arrays, *batch):
    # Merged inside this function, so that the variables belong to the trace that changes them.
    params = jax.tree.unflatten(of_arguments, jax.tree.leaves(params))
    merged = nnx.merge(graphdef, params, variables, arrays)
    model, args, kwargs = merged
    loss, aux = loss_and_aux(model, *args, *batch, **kwargs)
    return loss, (aux, as_pure(nnx.split(merged, selects, nnx.Variable, ...)[2]))

  return loss_at, params[0], variables, arrays


def of_states_like(name: str, start: nnx.State, grad_fn: GradFn) -> GradFn:
  """Returns ``grad_fn`` for states with or without variables, whose structure it checks."""

  def grad_fn_of_states(state: Params) -> Params:
    params = as_pure(state)
    if jax.tree.structure(params) != jax.tree.structure(start):
      raise ValueError(
        f"{name}: grad_fn got {jax.tree.structure(params)}; the params that wrt selects are"
        f" {jax.tree.structure(start)}: pass the same wrt to nnx.Optimizer"
      )
    return like(state, grad_fn(params))

  return grad_fn_of_states


def like(state: Params, tree: Params) -> Params:
  """Returns a tree without variables in the structure of the state, which may have them."""
  return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(tree))


@functools.partial(jax.jit, static_argnums=(0, 1))  # one program per forward and kind of model
def statistics_after(forward, graphdef, rest, statistics, batch):
  """Returns the statistics of BatchNorm after a pass over the batch."""
  model = nnx.merge(graphdef, statistics, rest)
  forward(model, batch)
  return as_pure(nnx.state(model, nnx.BatchStat))
