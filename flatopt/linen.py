"""Flax Linen: a train state that passes closures on to the optimizer, and batch statistics.

This module needs flax. ``import flatopt`` does not import it.
"""

import dataclasses
import functools
from typing import Any, Self

import optax

try:
  from flax.linen.fp8_ops import OVERWRITE_WITH_GRADIENT
  from flax.training import train_state
except ModuleNotFoundError as error:
  message = "flatopt.linen needs flax: pip install 'flatopt[flax]'"
  raise ModuleNotFoundError(message) from error

from flatopt import _method
from flatopt._batch_statistics import batch_statistics as batch_statistics
from flatopt._typing import Params


class TrainState(train_state.TrainState):
  """``flax.training.train_state.TrainState`` whose ``apply_gradients`` passes closures on.

  Flax's own ``apply_gradients`` does not pass extra arguments such as ``grad_fn`` on to
  ``tx.update``. Use this class in its place.

  Example:
    >>> import jax, jax.numpy as jnp, optax, flatopt
    >>> import flatopt.linen
    >>> loss_fn = lambda params: jnp.sum(params["w"] ** 4)
    >>> state = flatopt.linen.TrainState.create(
    ...   apply_fn=None,
    ...   params={"w": jnp.ones(2)},
    ...   tx=optax.chain(flatopt.sam(0.1), optax.sgd(0.01)),
    ... )
    >>> grad_fn = jax.grad(loss_fn)
    >>> state = state.apply_gradients(grads=grad_fn(state.params), grad_fn=grad_fn)
    >>> int(state.step)
    1
  """

  def apply_gradients(self, *, grads: Params, **kwargs: Any) -> Self:
    """Takes one step of the optimizer.

    Args:
      grads: gradients of the clean pass, a pytree like ``params``. As in Flax, a collection
        ``_overwrite_with_gradient`` (float8) replaces that of the params and is not optimized.
      **kwargs: an argument with the name of a field of this class (``batch_stats=...``) replaces
        that field; all others (``grad_fn=...``, ``sampled_grad_fn=...``) go to ``tx.update``.
        Closures are functions of all ``params``.

    Returns:
      The state after the step, with new ``step``, ``params`` and ``opt_state``.
    """
    fields = {field.name for field in dataclasses.fields(self)}
    replaced = {name: value for name, value in kwargs.items() if name in fields}
    extra_args = {name: value for name, value in kwargs.items() if name not in fields}
    if OVERWRITE_WITH_GRADIENT in grads:
      whole = lambda params: {**self.params, "params": params}
      extra_args = _method.closures_of_part(extra_args, whole, lambda grads: grads["params"])
    tx = optax.with_extra_args_support(self.tx)
    bound = optax.GradientTransformation(tx.init, functools.partial(tx.update, **extra_args))
    state = super(TrainState, self.replace(tx=bound)).apply_gradients(grads=grads, **replaced)
    return state.replace(tx=self.tx)
