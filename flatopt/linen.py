"""Flax Linen: a train state whose ``apply_gradients`` passes closures on; batch statistics.

Not imported by ``import flatopt``; needs flax.
"""

import dataclasses
import functools
from typing import Any, Self

import optax
from flax.training import train_state

from flatopt._batch_statistics import batch_statistics as batch_statistics
from flatopt._typing import Params


class TrainState(train_state.TrainState):
  """``flax.training.train_state.TrainState`` for optimizers that take extra arguments.

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
    """One step of the optimizer.

    Args:
      grads: gradients, like ``params``, of the clean pass.
      **kwargs: what names a field of this dataclass (``batch_stats=...``) replaces it;
        all else (``grad_fn=...``, ``sampled_grad_fn=...``) goes to ``tx.update``.

    Returns:
      The state with ``step``, ``params`` and ``opt_state`` moved on.
    """
    fields = {field.name for field in dataclasses.fields(self)}
    replaced = {name: value for name, value in kwargs.items() if name in fields}
    extra_args = {name: value for name, value in kwargs.items() if name not in fields}
    tx = optax.with_extra_args_support(self.tx)
    bound = optax.GradientTransformation(tx.init, functools.partial(tx.update, **extra_args))
    state = super(TrainState, self.replace(tx=bound)).apply_gradients(grads=grads, **replaced)
    return state.replace(tx=self.tx)
