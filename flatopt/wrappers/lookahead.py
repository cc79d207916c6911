"""Lookahead: slow weights that follow the base optimizer, kept in the state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _tree
from flatopt._typing import Params, ScalarOrSchedule
from flatopt.wrappers import _kept


class LookaheadState(NamedTuple):
  """The number of calls of ``update``, the slow weights, and the base optimizer's state."""

  count: jax.Array
  slow: Params
  base: optax.OptState

  method = "lookahead"
  extra_gradients = 0

  def eval_params(self, params):
    return _kept.where_ready(self.count, self.slow, params)

  def metrics(self):
    return {"count": self.count}


def lookahead(
  base_optimizer: optax.GradientTransformation,
  *,
  sync_period: int = 5,
  slow_step_size: ScalarOrSchedule = 0.5,
) -> optax.GradientTransformationExtraArgs:
  """Moves slow weights towards the fast weights every few steps, and continues from there.

      fast = w + base(g, w)
      every sync_period-th step:  slow <- slow + slow_step_size * (fast - slow);  w <- slow
      other steps:                w <- fast

  Prefer it to the base optimizer alone if that is noisy: a large learning rate, small batches.
  Evaluate at ``flatopt.eval_params(state, params)``, which gives the slow weights. Unlike
  ``optax.lookahead``, it does not need a pair of params. Cost: no extra gradient.

  Args:
    base_optimizer: any optax transformation; it gets the extra arguments of ``update``.
    sync_period: number of steps between synchronisations, >= 1.
    slow_step_size: share of the distance to the fast weights, in [0, 1]; 1 is the base
      optimizer.

  Returns:
    A transformation whose ``update`` needs ``params``. Its updates are those of the base
    optimizer, except at synchronisations. On several devices, pass gradients that are already
    averaged.

  State:
    count: int32, shape (). slow: the slow weights, like the params; they start at the params
    that the first update gets. base: the state of the base optimizer, which is never reset.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type, or ``params`` is
      missing.

  Source:
    Zhang, Lucas, Hinton, Ba 2019, arXiv 1907.08610, algorithm 1.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = flatopt.lookahead(optax.sgd(1.0), sync_period=2, slow_step_size=0.5)
    >>> w = jnp.array([4.0])
    >>> state = optimizer.init(w)
    >>> for _ in range(2):  # from 4 to 3, then to 2, and from there half of the way back to 4
    ...   updates, state = optimizer.update(jnp.array([1.0]), state, w)
    ...   w = optax.apply_updates(w, updates)
    >>> w.tolist()
    [3.0]
  """
  _arguments.check_transformation("lookahead", "base_optimizer", base_optimizer)
  _arguments.check_integer("lookahead", "sync_period", sync_period, minimum=1)
  _arguments.check_number("lookahead", "slow_step_size", slow_step_size, low=0, high=1)
  base = _method.prepare_base(base_optimizer)

  def init(params):
    slow = optax.tree.zeros_like(params)
    return LookaheadState(jnp.zeros((), jnp.int32), slow, base.init(params))

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("lookahead", "slow in the state", state.slow, params)
    slow = _kept.from_first_update(state.count, params, state.slow)
    updates, base_state = base.update(updates, state.base, params, **extra_args)
    count = _tree.increment(state.count)
    alpha = _arguments.value_at(slow_step_size, step)

    synchronise = count % sync_period == 0
    updates = _tree.cast_like(updates, params)
    fast = optax.apply_updates(params, updates)
    slow = _tree.where(synchronise, _tree.interpolate(alpha, slow, fast), slow)
    updates = _tree.where(synchronise, optax.tree.sub(slow, params), updates)
    return updates, LookaheadState(count, slow, base_state)

  return _method.transformation(
    "lookahead", LookaheadState, init, update, place="around", allow_complex=True
  )
