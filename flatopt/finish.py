"""Ends training at the params to evaluate at, for loops that return the params and drop the state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _tree
from flatopt.opt_state import eval_params_of, where_ready


class FinishState(NamedTuple):
  """The number of calls of ``update``, whether the last one finished, and the inner state."""

  count: jax.Array
  finished: jax.Array
  inner: optax.OptState

  method = "finish"
  extra_gradients = 0
  metrics = _method.reported("count")

  def eval_params(self, params):
    others = eval_params_of(self.inner, params)
    return where_ready(self.finished, params, others)


def finish(
  optimizer: optax.GradientTransformation, num_steps: int
) -> optax.GradientTransformationExtraArgs:
  """Moves the params to those to evaluate at, on the last update.

      u, state = optimizer(g, state, w)
      update number num_steps:  w <- eval_params(state, w + u)
      other updates:            w <- w + u

  Use it if a library owns the training loop, returns the params and drops the optimizer's state.
  Without it, such a loop returns the fast weights of ``lookahead`` and ``sala``, the perturbed
  params of ``momentum_sam``, and no average of ``weight_average``. In a loop of your own, call
  ``flatopt.eval_params``. Put it outermost. Cost: no extra gradient.

  Args:
    optimizer: any optax transformation with wrappers inside; it gets ``update``'s extra arguments.
    num_steps: number of updates in the whole training, >= 1. Stop after it: later updates are
      those of ``optimizer`` again, whose state does not know that the params were moved.

  Returns:
    A transformation whose ``update`` needs ``params``. It changes only update number ``num_steps``.

  State:
    count: int32, shape (). finished: bool, shape (), True after update number ``num_steps``. inner:
    the state of ``optimizer``.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = flatopt.finish(flatopt.weight_average(optax.sgd(1.0)), num_steps=3)
    >>> w = jnp.array([4.0])
    >>> state = optimizer.init(w)
    >>> for _ in range(3):  # from 4 to 3, to 2, and then to the mean of 4, 3, 2 and 1
    ...   updates, state = optimizer.update(jnp.array([1.0]), state, w)
    ...   w = optax.apply_updates(w, updates)
    >>> w.tolist()
    [2.5]
  """
  optimizer = _arguments.as_transformation("finish", "optimizer", optimizer)
  _arguments.check_integer("finish", "num_steps", num_steps, minimum=1)

  def init(params):
    return FinishState(jnp.zeros((), jnp.int32), jnp.zeros((), bool), optimizer.init(params))

  def update(updates, state, params, step, extra_args):
    updates, inner = optimizer.update(updates, state.inner, params, **extra_args)
    updates = jax.tree.map(jax.lax.optimization_barrier, updates)  # else XLA takes another copy
    evaluated = eval_params_of(inner, optax.apply_updates(params, updates))
    to_evaluated = _tree.cast_like(optax.tree.sub(evaluated, params), updates)
    finished = _tree.increment(state.count) == num_steps
    output = _tree.where(finished, to_evaluated, updates)
    return output, state._replace(finished=finished, inner=inner)

  return _method.transformation(FinishState, init, update, place="around", allow_complex=True)
