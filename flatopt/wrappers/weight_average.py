"""The average of the params during training: SWA, or an exponential average."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _tree
from flatopt._typing import Params
from flatopt.opt_state import eval_params_of, where_ready


class WeightAverageState(NamedTuple):
  """Counts of calls and of params in the average, the average, the base optimizer's state."""

  count: jax.Array
  num_averaged: jax.Array
  average: Params
  base: optax.OptState

  method = "weight_average"
  extra_gradients = 0
  metrics = _method.reported("count", "num_averaged")

  def eval_params(self, params):
    others = eval_params_of(self.base, params)
    return where_ready(self.num_averaged, self.average, others)


def weight_average(
  base_optimizer: optax.GradientTransformation,
  *,
  decay: float | None = None,
  start_step: int = 0,
  update_interval: int = 1,
) -> optax.GradientTransformationExtraArgs:
  """Keeps an average of the params. The training itself does not change.

      w_t: the params after t updates; w_0: the params that the first update gets
      at t = start_step, start_step + update_interval, ...:
        average <- the mean of all w_t so far              if decay is None (SWA)
        average <- decay * average + (1 - decay) * w_t     otherwise; first average <- w_t

  Use it as a baseline for every other method: it costs no gradient and often finds a flatter
  point. Evaluate at ``flatopt.eval_params(state, params)``, which gives the average, or the
  params themselves before ``start_step``. BatchNorm's statistics do not belong to the averaged
  params: compute new ones with ``flatopt.linen.batch_statistics``. Cost: no extra gradient.

  Args:
    base_optimizer: any optax transformation; it gets the extra arguments of ``update``. A wrapper's
      params for evaluation are averaged (``lookahead``, ``sala``, ``momentum_sam``).
    decay: decay rate of an exponential average, in [0, 1); ``None``: the uniform mean. In float32
      a mean of n params does not follow differences below n * 2^-24 of a weight.
    start_step: number of updates before the first params that are averaged, >= 0; with 0, the
      params of the first update are averaged too.
    update_interval: number of updates between two sets of params that are averaged, >= 1.

  Returns:
    A transformation whose ``update`` needs ``params``. Its updates are those of the base
    optimizer. On several devices, pass gradients that are already averaged.

  State:
    count, num_averaged: int32, shape (). average: like params, in float32 or wider, 4 bytes per
    parameter. base: the state of the base optimizer.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson 2018, arXiv 1803.05407, algorithm 1. The
    constant or cyclic learning rate of the paper is part of the base optimizer.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = flatopt.weight_average(optax.sgd(1.0), start_step=1)
    >>> w = jnp.array([4.0])
    >>> state = optimizer.init(w)
    >>> for _ in range(3):  # from 4 to 3, 2 and 1, whose mean is 2
    ...   updates, state = optimizer.update(jnp.array([1.0]), state, w)
    ...   w = optax.apply_updates(w, updates)
    >>> flatopt.eval_params(state, w).tolist()
    [2.0]
  """
  name = "weight_average"
  base = _arguments.as_transformation(name, "base_optimizer", base_optimizer)
  if decay is not None:
    _arguments.check_decay(name, decay)
  _arguments.check_integer(name, "start_step", start_step, minimum=0)
  _arguments.check_integer(name, "update_interval", update_interval, minimum=1)

  def init(params):
    return WeightAverageState(
      count=jnp.zeros((), jnp.int32),
      num_averaged=jnp.zeros((), jnp.int32),
      average=jax.tree.map(lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w)), params),
      base=base.init(params),
    )

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree(name, "average in the state", state.average, params)
    updates, base_state = base.update(updates, state.base, params, **extra_args)
    updates = _tree.cast_like(updates, params)
    count = _tree.increment(state.count)
    is_due = (count >= start_step) & ((count - start_step) % update_interval == 0)
    num_averaged = jnp.maximum(state.num_averaged, int(start_step == 0))  # w_0 is the first

    average = _tree.where(state.count == 0, _tree.cast_like(params, state.average), state.average)
    w = eval_params_of(base_state, optax.apply_updates(params, updates))
    if decay is None:
      mean = lambda n, a, w: a + (w - a) / n
      longer = _tree.map_wide(mean, (num_averaged + 1,), average, w)
    else:
      longer = _tree.interpolate(1 - decay, average, w)
    longer = _tree.where(num_averaged == 0, _tree.cast_like(w, average), longer)

    return updates, state._replace(
      num_averaged=num_averaged + is_due.astype(jnp.int32),
      average=_tree.where(is_due, longer, average),
      base=base_state,
    )

  return _method.transformation(
    WeightAverageState, init, update, place="around", allow_complex=True
  )
