"""AE-SAM: a sharpness-aware gradient on the steps where the gradient is large."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._typing import AxisName, ScalarOrSchedule, ShardAxes


class AeSamState(NamedTuple):
  """Counts of all steps and of sharpness-aware steps, mean and variance, ``inner``'s state."""

  count: jax.Array
  sharpness_steps: jax.Array
  mean: jax.Array
  variance: jax.Array
  inner: optax.OptState

  method = "ae_sam"
  extra_gradients = 0  # the state of ``inner`` counts them
  metrics = _method.reported("count", "sharpness_steps", "mean", "variance")


def ae_sam(
  inner: optax.GradientTransformation,
  *,
  num_steps: int,
  low: ScalarOrSchedule = -1.0,
  high: ScalarOrSchedule = 1.0,
  decay: float = 0.9,
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
) -> optax.GradientTransformationExtraArgs:
  """Takes the sharpness-aware gradient on steps where the gradient is large, compared with before.

      s = ||g||^2
      mean <- decay * mean + (1 - decay) * s
      variance <- decay * variance + (1 - decay) * (s - mean)^2
      c_t = high + (low - high) * min(t / num_steps, 1)
      output: inner(g)   if s >= mean + c_t * sqrt(variance)
              g          otherwise

  The method takes a large gradient as a sign of a sharp region. With the defaults, few steps are
  sharpness-aware at the start of training and most are at its end. Prefer it to ``rst`` if the size
  of the gradient tells better than chance which steps need it. You learn the cost only afterwards.
  ``lax.cond`` skips the second gradient, with the two exceptions of ``rst``. Cost: 0 to 1 extra
  gradients per step with ``inner = sam()``, depending on the data.

  Args:
    inner: a method that takes a gradient at other params: ``sam``, ``asam``, ...
    num_steps: number of steps of the run, >= 1. The threshold moves from ``high`` to ``low`` over
      these steps and stays at ``low`` afterwards.
    low: distance of the threshold from the mean at the end, in standard deviations; any finite
      number; a number, a scalar array or a schedule.
    high: the same distance at the start.
    decay: decay rate of the two running averages, in [0, 1).
    axis_name: as in ``rst``; the averaged gradient decides for all devices together.
    shard_axes: as in ``sam``.

  Returns:
    A transformation whose ``update`` needs ``params``; ``inner`` gets what it gets in ``rst``.

  State:
    count, sharpness_steps: int32, shape (). mean, variance: float32 (float64 for float64
    params), shape (). inner: the state of ``inner``, which changes on sharpness-aware steps only.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Jiang, Yang, Zhang, Kwok 2023, arXiv 2304.14647, AE-SAM. We could read only the beginning of the
    paper and found no code of its authors, so the equations follow a public description. Both
    averages start at 0, without bias correction, so the first step is sharpness-aware unless
    ``high`` exceeds ``1 / sqrt(1 - decay)``. A gradient that is not finite is returned as it is and
    changes neither average.

  Example:
    >>> import optax, flatopt
    >>> method = flatopt.ae_sam(flatopt.sam(rho=0.05), num_steps=10_000)
    >>> optimizer = optax.chain(method, optax.sgd(0.1))
  """
  inner = _arguments.as_transformation("ae_sam", "inner", inner)
  _arguments.check_integer("ae_sam", "num_steps", num_steps, minimum=1)
  _arguments.check_number("ae_sam", "low", low)
  _arguments.check_number("ae_sam", "high", high)
  _arguments.check_decay("ae_sam", decay)
  _arguments.check_axes("ae_sam", axis_name, shard_axes)

  def init(params):
    return AeSamState(
      count=jnp.zeros((), jnp.int32),
      sharpness_steps=jnp.zeros((), jnp.int32),
      mean=jnp.zeros((), _tree.wide_dtype(*jax.tree.leaves(params))),
      variance=jnp.zeros((), _tree.wide_dtype(*jax.tree.leaves(params))),
      inner=_method.init_inner("ae_sam", inner, params),
    )

  def update(updates, state, params, step, extra_args):
    axes = _devices.leaf_axes("ae_sam", params, axis_name, shard_axes)
    dtype = state.mean.dtype
    updates = _tree.cast_like(updates, params)
    averaged = _devices.mean(updates, axis_name)
    square = _tree.norm(averaged, axes).astype(dtype) ** 2
    mean = decay * state.mean + (1 - decay) * square
    variance = decay * state.variance + (1 - decay) * (square - mean) ** 2
    # Otherwise one number that is not finite would stay in the averages for ever.
    finite = jnp.isfinite(variance)
    mean = jnp.where(finite, mean, state.mean)
    variance = jnp.where(finite, variance, state.variance)

    high_t, low_t = (jnp.asarray(_arguments.value_at(x, step), dtype) for x in (high, low))
    progress = jnp.clip(jnp.asarray(step).astype(dtype) / num_steps, 0, 1)
    threshold = mean + (high_t + (low_t - high_t) * progress) * jnp.sqrt(variance)
    is_sharp = jnp.isfinite(square) & (square >= threshold)

    def sharp_gradient():
      # Schedules of ``inner`` read the step, because its own count lags behind.
      inner_args = extra_args | {"step": step}
      sharp, inner_state = inner.update(updates, state.inner, params, **inner_args)
      sharp = _devices.varying(_tree.cast_like(sharp, params), axis_name)
      return _devices.mean(sharp, axis_name), inner_state

    # All devices take the same branch, so collectives are allowed inside it.
    output, inner_state = _method.cond(is_sharp, sharp_gradient, lambda: (averaged, state.inner))
    return output, state._replace(
      sharpness_steps=state.sharpness_steps + is_sharp.astype(jnp.int32),
      mean=mean,
      variance=variance,
      inner=inner_state,
    )

  return _method.transformation(AeSamState, init, update, place="before", axis_name=axis_name)
