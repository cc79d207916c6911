"""AE-SAM: a sharpness-aware gradient where the gradient is large among the recent ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._typing import AxisName, ScalarOrSchedule


class AeSamState(NamedTuple):
  """Counts of update calls and of sharpness steps, the statistics, the inner state."""

  count: jax.Array
  sharpness_steps: jax.Array
  mean: jax.Array
  variance: jax.Array
  inner: optax.OptState

  method = "ae_sam"
  extra_gradients = 0

  def metrics(self):
    return {
      "count": self.count,
      "sharpness_steps": self.sharpness_steps,
      "mean": self.mean,
      "variance": self.variance,
    }


def ae_sam(
  inner: optax.GradientTransformation,
  *,
  num_steps: int,
  low: ScalarOrSchedule = -1.0,
  high: ScalarOrSchedule = 1.0,
  decay: float = 0.9,
  axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
  """Takes a sharpness-aware gradient where the gradient is large among the recent ones.

      s = ||g||^2
      mean <- decay * mean + (1 - decay) * s
      variance <- decay * variance + (1 - decay) * (s - mean)^2
      c_t = high + (low - high) * t / num_steps
      output: inner(g)  where s >= mean + c_t * sqrt(variance)
              g         else

  Large gradients are taken for a sign of a sharp region. With the defaults few steps pay
  early in training and most of them late. Prefer it to ``rst`` where the gradient's size
  says when to pay; how much is paid is then only known afterwards. Cost: one extra
  gradient on sharpness steps with ``inner = sam()``, none on others (``lax.cond``, with
  what ``rst`` says of it).

  Args:
    inner: a transformation that looks at the loss elsewhere: ``sam``, ``asam``, ...
    num_steps: steps of the run, over which the threshold moves from ``high`` to ``low``,
      where it stays, >= 1.
    low, high: the threshold's last and first distance from the mean, in standard
      deviations; any finite numbers.
    decay: of the two running averages, in [0, 1).
    axis_name: mapped axis under ``pmap`` or ``shard_map``: the averaged gradient decides,
      for all devices alike; ``inner`` gets each device's own gradient, and the output is
      averaged.

  Returns:
    A transformation whose ``update`` hands all extra arguments to ``inner``, and ``step``,
    the count of all steps, for its schedules to read.

  State:
    count, sharpness_steps: int32, shape (). mean, variance: float, shape (). inner: the
    state of ``inner``, which advances on sharpness steps only.

  Raises:
    ValueError, TypeError: a bad argument or ``params=None``.

  Source:
    Jiang, Yang, Zhang, Kwok 2023, arXiv 2304.14647, AE-SAM. Neither its text nor code of
    its authors could be read here: the equations are those of a public description. Both
    averages start at 0, so that the first step is a sharpness step unless ``high`` exceeds
    ``1 / sqrt(1 - decay)``. A gradient that is not finite leaves as it came and enters
    neither average.

  Example:
    >>> import optax, flatopt
    >>> method = flatopt.ae_sam(flatopt.sam(rho=0.05), num_steps=10_000)
    >>> optimizer = optax.chain(method, optax.sgd(0.1))
  """
  _arguments.check_transformation("ae_sam", "inner", inner)
  _arguments.check_integer("ae_sam", "num_steps", num_steps, minimum=1)
  _arguments.check_number("ae_sam", "low", low)
  _arguments.check_number("ae_sam", "high", high)
  _arguments.check_decay("ae_sam", decay)
  _arguments.check_axis("ae_sam", axis_name)
  inner = optax.with_extra_args_support(inner)

  def init(params):
    return AeSamState(
      count=jnp.zeros((), jnp.int32),
      sharpness_steps=jnp.zeros((), jnp.int32),
      mean=jnp.zeros((), _tree.wide_dtype(*jax.tree.leaves(params))),
      variance=jnp.zeros((), _tree.wide_dtype(*jax.tree.leaves(params))),
      inner=inner.init(params),
    )

  def update(updates, state, params, step, extra_args):
    dtype = state.mean.dtype
    updates = _tree.cast_like(updates, params)
    averaged = _devices.mean(updates, axis_name)
    square = _tree.norm(averaged, _devices.shard_axes(params, axis_name)).astype(dtype) ** 2
    mean = decay * state.mean + (1 - decay) * square
    variance = decay * state.variance + (1 - decay) * (square - mean) ** 2
    # One number that is not finite would stay in the averages for ever.
    finite = jnp.isfinite(variance)
    mean = jnp.where(finite, mean, state.mean)
    variance = jnp.where(finite, variance, state.variance)

    first, last = (jnp.asarray(_arguments.value_at(x, step), dtype) for x in (high, low))
    progress = jnp.clip(jnp.asarray(step).astype(dtype) / num_steps, 0, 1)
    threshold = mean + (first + (last - first) * progress) * jnp.sqrt(variance)
    is_sharp = jnp.isfinite(square) & (square >= threshold)

    def sharpen():
      inner_args = _method.for_inside(extra_args, step, axis_name)
      sharp, inner_state = inner.update(updates, state.inner, params, **inner_args)
      sharp = _devices.varying(_tree.cast_like(sharp, params), axis_name)
      return _devices.mean(sharp, axis_name), inner_state

    # All devices take the same branch, so that its collectives may stand inside.
    output, inner_state = _method.cond(is_sharp, sharpen, lambda: (averaged, state.inner))
    return output, AeSamState(
      count=_tree.increment(state.count),
      sharpness_steps=state.sharpness_steps + is_sharp.astype(jnp.int32),
      mean=mean,
      variance=variance,
      inner=inner_state,
    )

  return _method.transformation(
    "ae_sam", AeSamState, init, update, place="before", axis_name=axis_name
  )
