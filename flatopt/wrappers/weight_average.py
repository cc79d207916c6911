"""Averages of the params along the way: SWA and exponential averages, inside the state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _tree, introspection
from flatopt._typing import Params


class WeightAverageState(NamedTuple):
  """Counts of update calls and of params averaged, their average, the base optimizer's state."""

  count: jax.Array
  num_averaged: jax.Array
  average: Params
  base: optax.OptState

  method = "weight_average"
  extra_gradients = 0

  @property
  def eval_params(self):
    return self.average

  @property
  def has_eval_params(self):
    return self.num_averaged > 0

  def metrics(self):
    return {"count": self.count, "num_averaged": self.num_averaged}


def weight_average(
  base_optimizer: optax.GradientTransformation,
  *,
  decay: float | None = None,
  start_step: int = 0,
  update_interval: int = 1,
) -> optax.GradientTransformationExtraArgs:
  """Keeps an average of the params, and changes nothing about how they are trained.

      w_t: the params after t updates, w_0 the initial ones
      at t = start_step, start_step + update_interval, ...:
        average = the mean of all w_t so far                    decay None: SWA
        average <- decay * average + (1 - decay) * w_t          from w_t at start_step

  Evaluate at ``flatopt.eval_params(state, params)``: the average, and the params themselves
  before ``start_step``. What costs no gradient and often finds a flatter point is what any
  other method has to beat. BatchNorm's statistics are not those of the average:
  ``flatopt.linen.batch_statistics`` estimates them anew. Cost: no extra gradient.

  Args:
    base_optimizer: any optax transformation; extra arguments are handed on to it. Of a
      wrapper with ``eval_params`` of its own (``lookahead``, ``sala``, ``momentum_sam``) those
      are averaged, and not the params that it trains on.
    decay: of an exponential average, in [0, 1); ``None`` is the uniform mean.
    start_step: updates before the first params that are averaged, >= 0; 0 takes the initial
      params in.
    update_interval: updates from one set of params averaged to the next, >= 1.

  Returns:
    A transformation whose ``update`` needs ``params``, and whose updates are the base's. On
    several devices it takes averaged updates.

  State:
    count, num_averaged: int32, shape (). average: a copy of params in at least float32.
    base: the base optimizer's state.

  Raises:
    ValueError, TypeError: a bad argument or ``params=None``.

  Source:
    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson 2018, arXiv 1803.05407, algorithm 1, whose
    average starts with the params that it is given. Its learning rate is the base's affair.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = flatopt.weight_average(optax.sgd(1.0), start_step=1)
    >>> w = jnp.array([4.0])
    >>> state = optimizer.init(w)
    >>> for _ in range(3):  # to 3, 2, 1
    ...   updates, state = optimizer.update(jnp.array([1.0]), state, w)
    ...   w = optax.apply_updates(w, updates)
    >>> flatopt.eval_params(state, w).tolist()
    [2.0]
  """
  name = "weight_average"
  _arguments.check_transformation(name, "base_optimizer", base_optimizer)
  if decay is not None:
    _arguments.check_decay(name, decay)
  _arguments.check_integer(name, "start_step", start_step, minimum=0)
  _arguments.check_integer(name, "update_interval", update_interval, minimum=1)
  base = optax.with_extra_args_support(base_optimizer)

  def init(params):
    # A copy: an alias of the params would break the donation of both.
    copy = lambda w: jnp.copy(w).astype(_tree.wide_dtype(w))
    return WeightAverageState(
      count=jnp.zeros((), jnp.int32),
      num_averaged=jnp.full((), int(start_step == 0), jnp.int32),
      average=jax.tree.map(copy, params),
      base=base.init(params),
    )

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree(name, "average in the state", state.average, params)
    updates, base_state = base.update(updates, state.base, params, **extra_args)
    updates = _tree.cast_like(updates, params)
    count = _tree.increment(state.count)
    due = (count >= start_step) & ((count - start_step) % update_interval == 0)

    def take_in():
      moved = introspection.evaluated(base_state, optax.apply_updates(params, updates))
      if decay is None:
        towards = lambda n, a, w: a + (w - a) / n
        average = _tree.map_wide(towards, (state.num_averaged + 1,), state.average, moved)
      else:
        average = _tree.interpolate(1 - decay, state.average, moved)
      return _tree.where(state.num_averaged == 0, _tree.cast_like(moved, average), average)

    return updates, WeightAverageState(
      count=count,
      num_averaged=state.num_averaged + due.astype(jnp.int32),
      average=_method.cond(due, take_in, lambda: state.average),
      base=base_state,
    )

  return _method.transformation(name, WeightAverageState, init, update, place="around")
