"""What ``axis_name`` means under ``pmap`` and ``shard_map``."""

from collections.abc import Iterable
from typing import Any

import jax

from flatopt._typing import AxisName, Params


def mean(tree: Params, axis_name: AxisName) -> Params:
  """The mean over the axis; the tree itself without one."""
  return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def varying(tree: Params, axis_name: AxisName) -> Params:
  """Marks the tree as varying over the axis where ``shard_map`` tracks that.

  A gradient with respect to params that do not vary is summed over devices behind
  the caller's back, and ``cond`` and ``scan`` want both sides marked alike.
  """
  names = _tracked_names(axis_name)
  return jax.tree.map(lambda x: _cast(x, names), tree)


def varying_like(tree: Params, like: Params) -> Params:
  """Marks each leaf as varying over the axes that its counterpart varies over."""
  return jax.tree.map(lambda x, y: _cast(x, _varying_names(y)), tree, like)


def check_varying(method: str, updates: Params, axis_name: AxisName) -> None:
  """Raises when ``shard_map`` knows that the updates are the same on every device."""
  for name in _tracked_names(axis_name):
    if not all(name in _varying_names(x) for x in jax.tree.leaves(updates)):
      raise ValueError(
        f"{method}: updates do not vary over axis_name={name!r}: they were already averaged, or"
        " are gradients with respect to replicated params, which shard_map sums over devices."
        f" Pass per-device gradients: cast the params with jax.lax.pcast(params, {name!r},"
        " to='varying') before differentiating."
      )


def _cast(x: jax.Array, names: Iterable[str]) -> jax.Array:
  missing = tuple(name for name in names if name not in _varying_names(x))
  return jax.lax.pcast(x, missing, to="varying") if missing else x


def _tracked_names(axis_name: AxisName) -> tuple[str, ...]:
  if axis_name is None:
    return ()
  names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
  return tuple(n for n in names if n in _varying_names(jax.lax.axis_index(n)))


def _varying_names(x: Any) -> frozenset[str]:
  return jax.typeof(x).manual_axis_type.varying
