"""Lookahead as a plain transformation: the slow weights live in the state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _tree
from flatopt._typing import Params, ScalarOrSchedule


class LookaheadState(NamedTuple):
  """Count of update calls, the slow weights, and the base optimizer's state."""

  count: jax.Array
  slow: Params
  base: optax.OptState

  method = "lookahead"
  extra_gradients = 0

  @property
  def eval_params(self):
    return self.slow

  def metrics(self):
    return {"count": self.count}


def lookahead(
  base_optimizer: optax.GradientTransformation,
  *,
  sync_period: int = 5,
  slow_step_size: ScalarOrSchedule = 0.5,
) -> optax.GradientTransformationExtraArgs:
  """Every ``sync_period`` steps, moves slow weights towards the fast ones and restarts there.

      fast = w + base(g, w)
      every sync_period-th step: slow += slow_step_size * (fast - slow), and w = slow
      else: w = fast

  Prefer it to the bare base optimizer where that one is noisy; evaluate at
  ``flatopt.eval_params(state, params)``, the slow weights. Unlike ``optax.lookahead``
  it needs no pair of params. Cost: no extra gradient.

  Args:
    base_optimizer: any optax transformation; extra arguments are handed on to it.
    sync_period: steps between synchronisations, >= 1.
    slow_step_size: share of the way to the fast weights, in [0, 1]; 1 is the base.

  Returns:
    A transformation whose ``update`` needs ``params``, and whose updates are the base's
    except at synchronisations. On several devices it takes averaged updates.

  State:
    count: int32, shape (). slow: a copy of params. base: the base optimizer's state,
    which no synchronisation resets.

  Raises:
    ValueError, TypeError: a bad argument or ``params=None``.

  Source:
    Zhang, Lucas, Hinton, Ba 2019, arXiv 1907.08610, algorithm 1.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = flatopt.lookahead(optax.sgd(1.0), sync_period=2, slow_step_size=0.5)
    >>> w = jnp.array([4.0])
    >>> state = optimizer.init(w)
    >>> for _ in range(2):  # to 3, to 2, and half the way back to 4
    ...   updates, state = optimizer.update(jnp.array([1.0]), state, w)
    ...   w = optax.apply_updates(w, updates)
    >>> w.tolist()
    [3.0]
  """
  _arguments.check_transformation("lookahead", "base_optimizer", base_optimizer)
  _arguments.check_integer("lookahead", "sync_period", sync_period, minimum=1)
  _arguments.check_number("lookahead", "slow_step_size", slow_step_size, low=0, high=1)
  base = _method.base(base_optimizer)

  def init(params):
    return LookaheadState(jnp.zeros((), jnp.int32), _tree.copy(params), base.init(params))

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("lookahead", "slow in the state", state.slow, params)
    updates, base_state = base.update(updates, state.base, params, **extra_args)
    count = _tree.increment(state.count)
    alpha = _arguments.value_at(slow_step_size, step)

    synchronise = count % sync_period == 0
    updates = _tree.cast_like(updates, params)
    moved = _tree.interpolate(alpha, state.slow, optax.apply_updates(params, updates))
    slow = _tree.where(synchronise, moved, state.slow)
    updates = _tree.where(synchronise, optax.tree.sub(slow, params), updates)
    return updates, LookaheadState(count, slow, base_state)

  return _method.transformation("lookahead", LookaheadState, init, update, place="around")
