"""The mask of flat coordinates of ``ire``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._typing import AxisName, BigCount, Params, ScalarOrSchedule, ShardAxes
from flatopt.curvature.hutchinson import hutchinson
from flatopt.kth_smallest import (
  LOW_BITS,
  count_true,
  from_ordered_integer,
  kth_smallest_ordered,
  less,
  to_ordered_integers,
)


class FlatMask(NamedTuple):
  """The mask ``flat`` (bool, like params), the numbers behind it, and the estimator's state."""

  flat: Params
  curvature: Params  # the running average h; () without decay
  threshold: jax.Array
  flat_share: jax.Array
  refreshes: jax.Array
  estimator: optax.OptState

  metrics = _method.reported("threshold", "flat_share", "refreshes")


def flat_mask(
  flat_fraction: ScalarOrSchedule,
  curvature: optax.GradientTransformation | None,
  update_interval: int,
  start_step: int,
  decay: float,
  key: int | jax.Array,
  axis_name: AxisName,
  shard_axes: ShardAxes,
) -> tuple[Callable[..., FlatMask], Callable[..., FlatMask]]:
  """Returns ``(init, refresh)``. ``refresh`` computes a new mask only on steps that are due.

  h <- decay * h + (1 - decay) * |estimate|
  flat = h <= the k-th smallest entry of h,  k = floor(size * flat_fraction)
  """
  _arguments.check_number("ire", "flat_fraction", flat_fraction, low=0, high=1)
  _arguments.check_integer("ire", "update_interval", update_interval, minimum=1)
  _arguments.check_integer("ire", "start_step", start_step, minimum=0)
  _arguments.check_decay("ire", decay)
  _arguments.check_key("ire", key)
  if curvature is None:
    curvature = hutchinson(key=key)
  estimator = _arguments.as_transformation("ire", "curvature", curvature)

  def init(params) -> FlatMask:
    dtype = _tree.wide_dtype(*jax.tree.leaves(params))
    zeros = lambda x: jnp.zeros_like(x, dtype=_tree.wide_dtype(x))
    return FlatMask(
      flat=jax.tree.map(lambda x: jnp.zeros_like(x, dtype=bool), params),
      curvature=jax.tree.map(zeros, params) if decay > 0 else (),
      threshold=jnp.zeros((), dtype),
      flat_share=jnp.zeros((), jnp.float32),
      refreshes=jnp.zeros((), jnp.int32),
      estimator=estimator.init(params),
    )

  def estimate(mask: FlatMask, step, updates, params, extra_args, axes) -> FlatMask:
    params = _devices.varying(params, axis_name)
    # The axes tell the estimator why these params vary over devices.
    extra_args = extra_args | {"step": step, "axis_name": axis_name, "shard_axes": shard_axes}
    diagonal, estimator_state = estimator.update(updates, mask.estimator, params, **extra_args)
    _arguments.check_same_tree("ire", "the curvature estimate", diagonal, params)
    magnitude = lambda x, w: jnp.abs(jnp.asarray(x, _tree.wide_dtype(w)))
    h = jax.tree.map(magnitude, _devices.mean(diagonal, axis_name), params)
    if decay > 0:
      add = lambda h, x: jnp.where(jnp.isfinite(x), decay * h + (1 - decay) * x, h)
      h = jax.tree.map(add, mask.curvature, h)
    size = _devices.size(params, axes)
    rank = _rank(size, _arguments.value_at(flat_fraction, step))
    rank_is_positive = less((jnp.uint32(0), jnp.uint32(0)), rank)
    # Only the order matters from here on, so only integers in that order stay in memory.
    dtype = mask.threshold.dtype
    ordered = jax.tree.map(lambda x: to_ordered_integers(x.astype(dtype)), h)
    kth = kth_smallest_ordered(jax.tree.leaves(ordered), rank, axes)
    # If the rank is 0, the threshold is below every magnitude, so that no coordinate is flat.
    kth = jnp.where(rank_is_positive, kth, to_ordered_integers(-jnp.ones((), dtype)))
    largest = to_ordered_integers(jnp.asarray(jnp.finfo(dtype).max, dtype))
    largest = _devices.varying_like(largest, kth)
    # In a branch, else XLA computes them again, with other rounding, and kth is no entry of them.
    at_most = lambda limit: lambda: jax.tree.map(lambda x: x <= limit, ordered)
    flat = _method.cond(kth <= largest, at_most(kth), at_most(largest))
    counts = [count_true(x).astype(jnp.float32) for x in jax.tree.leaves(flat)]
    share = _devices.total(counts, axes) / float(size)
    return FlatMask(
      flat=flat,
      curvature=h if decay > 0 else (),
      threshold=from_ordered_integer(kth, dtype),
      flat_share=share,
      refreshes=_tree.increment(mask.refreshes),
      estimator=estimator_state,
    )

  def refresh(mask: FlatMask, count, step, updates, params, extra_args) -> FlatMask:
    _arguments.check_same_tree("ire", "the mask in the state", mask.flat, params)
    axes = _devices.leaf_axes("ire", params, axis_name, shard_axes)
    # Where each device has a model of its own, these scalars vary as their new values do.
    own = lambda x: _devices.varying_like_total(x, jax.tree.leaves(params), axes)
    mask = mask._replace(threshold=own(mask.threshold), flat_share=own(mask.flat_share))
    is_due = (count >= start_step) & ((count - start_step) % update_interval == 0)
    return _method.cond(
      is_due, lambda: estimate(mask, step, updates, params, extra_args, axes), lambda: mask
    )

  return init, refresh


def _rank(size: int, fraction: Any) -> BigCount:
  """Returns ``floor(size * fraction)``, computed in Python for numbers, else in float32."""
  if isinstance(fraction, int | float | np.number):
    high, low = divmod(int(size * fraction), 2**LOW_BITS)
    return jnp.uint32(high), jnp.uint32(low)
  rank = jnp.floor(jnp.float32(size) * jnp.asarray(fraction, jnp.float32))
  high = jnp.floor(rank * 2.0**-LOW_BITS)
  low = rank - high * 2.0**LOW_BITS
  rank = high.astype(jnp.uint32), low.astype(jnp.uint32)
  largest = tuple(map(jnp.uint32, divmod(size, 2**LOW_BITS)))
  return _tree.where(less(largest, rank), largest, rank)
