"""Sharpness-aware Lookahead (SALA): Lookahead with a gradient of SAM once in a cycle."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Params, ScalarOrSchedule, ShardAxes
from flatopt.opt_state import where_ready


class SalaState(NamedTuple):
  """The count, slow weights, stage (1 or 2), distance, extra gradients, the base state."""

  count: jax.Array
  slow: Params
  stage: jax.Array
  distance: jax.Array
  extra_gradients: jax.Array
  base: optax.OptState

  method = "sala"
  metrics = _method.reported("count", "stage", "distance", "extra_gradients")

  def eval_params(self, params):
    return where_ready(self.count, self.slow, params)


def sala(
  base_optimizer: optax.GradientTransformation,
  *,
  sync_period: int = 5,
  slow_step_size: ScalarOrSchedule = 0.5,
  rho: ScalarOrSchedule = 0.05,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Lookahead in which one step of each cycle uses a gradient from other params.

      c = 1, 2, ... counts the calls, k = sync_period, and the first stage is 1

      if c % k == 0:      in stage 2:  g <- grad_fn(w + rho * g / ||g||)
                          fast = slow + base(g, slow)
      otherwise:          fast = w + base(g, w)
      then:               w <- fast
      if c % k == k - 1:  distance = (1 - slow_step_size) * ||fast - slow||
                          slow <- slow + slow_step_size * (fast - slow)
                          stage <- 2 if distance < rho, else 1
                          in the new stage 2:  w <- slow

  Every k-th step starts at the slow weights. In stage 1 the gradient was taken at the fast weights,
  which are far away, so it already is a gradient at other params and costs nothing. In stage 2 the
  fast weights are closer than ``rho``, so SAM's gradient is computed. Prefer it to ``sam`` if you
  can afford little more than the base optimizer costs. Evaluate at
  ``flatopt.eval_params(state, params)``, which gives the slow weights. Cost: 1 extra gradient every
  ``sync_period`` steps while slow and fast weights are near each other (stage 2), else none.

  Args:
    base_optimizer: any optax transformation; it gets the extra arguments of ``update``.
    sync_period: number of steps in a cycle, >= 2.
    slow_step_size: share of the distance to the fast weights, in [0, 1].
    rho: radius of the perturbation, and the distance below which stage 2 begins, in units of
      the params' global l2 norm, >= 0; a number, a scalar array or a schedule.
    axis_name: as in ``sam``; the base optimizer gets the averaged gradients.
    shard_axes, sync_perturbation: as in ``sam``.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count, stage, extra_gradients: int32, shape (). distance: float32 (float64 for float64
    params), shape (). slow: the slow weights, like the params; they start at the params
    that the first update gets. base: the state of the base optimizer, which is never reset.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Tan, Zhang, Liu, Wang, et al. 2024, doi 10.1109/TPAMI.2024.3444002. Deviation: the slow weights
    start at the first update's params; the published code makes them at the first synchronisation.

  Example:
    >>> import optax, flatopt
    >>> optimizer = flatopt.sala(optax.sgd(0.1, momentum=0.9), sync_period=5, rho=0.2)
  """
  base = _arguments.as_transformation("sala", "base_optimizer", base_optimizer)
  _arguments.check_integer("sala", "sync_period", sync_period, minimum=2)
  _arguments.check_number("sala", "slow_step_size", slow_step_size, low=0, high=1)
  perturbation = _perturbation.Perturbation("sala", rho, axis_name, shard_axes, sync_perturbation)

  def init(params):
    return SalaState(
      count=jnp.zeros((), jnp.int32),
      slow=optax.tree.zeros_like(params),
      stage=jnp.ones((), jnp.int32),
      distance=jnp.zeros((), _tree.wide_dtype(*jax.tree.leaves(params))),
      extra_gradients=jnp.zeros((), jnp.int32),
      base=base.init(params),
    )

  def update(updates, state, params, step, extra_args):
    _arguments.check_same_tree("sala", "slow in the state", state.slow, params)
    axes = perturbation.axes(params)
    # Where each device has a model of its own, these scalars vary as their new values do.
    own = lambda x: _devices.varying_like_total(x, jax.tree.leaves(params), axes)
    state = state._replace(stage=own(state.stage), distance=own(state.distance))
    rho_t = jnp.asarray(_arguments.value_at(rho, step), state.distance.dtype)
    alpha = jnp.asarray(_arguments.value_at(slow_step_size, step), state.distance.dtype)
    count = _tree.increment(state.count)
    from_slow = count % sync_period == 0
    synchronise = count % sync_period == sync_period - 1
    perturb = from_slow & (state.stage == 2)
    grads = _devices.varying(_tree.cast_like(updates, params), axis_name)
    sam_gradient = lambda: perturbation.gradient(params, grads, step, extra_args)
    grads = _devices.mean(_method.cond(perturb, sam_gradient, lambda: grads), axis_name)
    slow = _tree.where(state.count == 0, _tree.cast_like(params, state.slow), state.slow)
    start = _tree.where(from_slow, slow, params)
    updates, base_state = base.update(grads, state.base, start, **extra_args)
    fast = optax.apply_updates(start, updates)

    def move_slow():
      distance = (1 - alpha) * _tree.norm(optax.tree.sub(fast, slow), axes)
      stage = jnp.where(distance < rho_t, 2, 1).astype(jnp.int32)
      return _tree.interpolate(alpha, slow, fast), distance.astype(state.distance.dtype), stage

    slow, distance, stage = _method.cond(
      synchronise, move_slow, lambda: (slow, state.distance, state.stage)
    )
    to_slow = synchronise & (stage == 2)
    target = _tree.where(to_slow, slow, fast)
    output = _tree.where(from_slow | to_slow, optax.tree.sub(target, params), updates)
    return _tree.cast_like(output, params), state._replace(
      slow=slow,
      stage=stage,
      distance=distance,
      extra_gradients=state.extra_gradients + perturb.astype(jnp.int32),
      base=base_state,
    )

  return _method.transformation(SalaState, init, update, place="around", axis_name=axis_name)
