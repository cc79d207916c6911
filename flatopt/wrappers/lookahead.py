"""Lookahead: slow weights that follow the base optimizer, kept in the state."""

import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _tree
from flatopt._typing import Params, ScalarOrSchedule
from flatopt.opt_state import where_ready


class LookaheadState(NamedTuple):
  """The number of calls of ``update``, the slow weights, their momentum, the base state."""

  count: jax.Array
  slow: Params
  momentum: Params
  base: optax.OptState

  method = "lookahead"
  extra_gradients = 0
  metrics = _method.reported("count")

  def eval_params(self, params):
    return where_ready(self.count, self.slow, params)


def lookahead(
  base_optimizer: optax.GradientTransformation,
  *,
  sync_period: int = 5,
  slow_step_size: ScalarOrSchedule = 0.5,
  slow_momentum: ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """Moves slow weights towards the fast weights every few steps, and continues from there.

      fast = w + base(g, w)
      every sync_period-th step:  d = fast - slow
                                  m <- slow_momentum * m + d
                                  slow <- slow + slow_step_size * (d + slow_momentum * m)
                                  w <- slow
      other steps:                w <- fast

  Prefer it to the base optimizer alone if that is noisy: a large learning rate, small batches.
  With ``slow_momentum``, Nesterov's momentum, it is DiLoCo on one worker. Evaluate at
  ``flatopt.eval_params(state, params)``, which gives the slow weights. Unlike
  ``optax.lookahead``, it does not need a pair of params. Cost: no extra gradient.

  Args:
    base_optimizer: any optax transformation; it gets the extra arguments of ``update``.
    sync_period: number of steps between synchronisations, >= 1.
    slow_step_size: share of the distance to the fast weights, in [0, 1]; 1 is the base optimizer,
      if ``slow_momentum`` is 0.
    slow_momentum: decay rate of the slow weights' momentum, in [0, 1); a number or a schedule.

  Returns:
    A transformation whose ``update`` needs ``params``. Its updates are those of the base optimizer,
    except at synchronisations. On several devices, pass gradients that are already averaged.

  State:
    count: int32, shape (). slow: the slow weights, like the params; they start at the params
    that the first update gets. momentum: ``m``, like the params; ``()`` if ``slow_momentum`` is
    the number 0. base: the state of the base optimizer, which is never reset.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Zhang, Lucas, Hinton, Ba 2019, arXiv 1907.08610, algorithm 1. With momentum: Douillard et al.
    2023 (DiLoCo), arXiv 2311.08105, algorithm 1, and Therien et al. 2025 (MuLoCo), arXiv
    2505.23725, on one worker; the momentum is that of ``torch.optim.SGD`` and ``optax.sgd``, as in
    DiLoCo. MuLoCo's code has ``slow_step_size`` inside ``m``, which is the same unless it changes.

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
  base = _arguments.as_transformation("lookahead", "base_optimizer", base_optimizer)
  _arguments.check_integer("lookahead", "sync_period", sync_period, minimum=1)
  _arguments.check_number("lookahead", "slow_step_size", slow_step_size, low=0, high=1)
  is_number = isinstance(slow_momentum, numbers.Real)
  if is_number:
    _arguments.check_decay("lookahead", slow_momentum, "slow_momentum")
  else:
    _arguments.check_number("lookahead", "slow_momentum", slow_momentum, low=0, high=1)
  has_momentum = not is_number or slow_momentum != 0

  def init(params):
    zeros = lambda: optax.tree.zeros_like(params)
    momentum = zeros() if has_momentum else ()
    return LookaheadState(jnp.zeros((), jnp.int32), zeros(), momentum, base.init(params))

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("lookahead", "slow in the state", state.slow, params)
    slow = _tree.where(state.count == 0, _tree.cast_like(params, state.slow), state.slow)
    updates, base_state = base.update(updates, state.base, params, **extra_args)
    alpha = _arguments.value_at(slow_step_size, step)
    synchronise = _tree.increment(state.count) % sync_period == 0
    updates = _tree.cast_like(updates, params)
    fast = optax.apply_updates(params, updates)
    momentum = state.momentum
    if has_momentum:
      _arguments.check_same_tree("lookahead", "momentum in the state", momentum, params)
      mu = _arguments.value_at(slow_momentum, step)
      add = lambda mu, m, x, y: mu * m + (y - x)
      m = _tree.map_wide(add, (mu,), momentum, slow, fast)
      momentum = _tree.where(synchronise, m, momentum)
      move = lambda alpha, mu, x, y, m: x + alpha * (y - x + mu * m)
      new_slow = _tree.map_wide(move, (alpha, mu), slow, fast, momentum)
    else:
      new_slow = _tree.interpolate(alpha, slow, fast)
    slow = _tree.where(synchronise, new_slow, slow)
    updates = _tree.where(synchronise, optax.tree.sub(slow, params), updates)
    return updates, state._replace(slow=slow, momentum=momentum, base=base_state)

  return _method.transformation(LookaheadState, init, update, place="around", allow_complex=True)
