"""Mesh axes under ``pmap`` and ``shard_map``.

Over a data axis (a method's ``axis_name``) gradients differ and are averaged. Params may also be
sharded over other axes (``shard_axes``): then sums over their leaves are sums over devices.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt._typing import Axes, AxisName, Params, ShardAxes


def mean(tree: Params, axis_name: AxisName) -> Params:
  """Returns the mean over the axis, added in float32 or wider; without an axis the tree itself."""
  if axis_name is None:
    return tree
  wide = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype.itemsize < 4 else x, tree)
  return jax.tree.map(lambda x, m: m.astype(x.dtype), tree, jax.lax.pmean(wide, axis_name))


def leaf_axes(method: str, params: Params, axis_name: AxisName, shard_axes: ShardAxes) -> Axes:
  """Returns, for each leaf, the mesh axes over which a sum over its entries is one over devices.

  These are those of ``shard_axes`` over which the leaf varies. If ``shard_map`` does not track
  varying axes (``check_vma=False``), and under ``pmap`` and ``vmap``, they are all of
  ``shard_axes``. With ``None``, leaves must not vary over any axis but ``axis_name``.
  """
  varies = [_varying_names(x) for x in jax.tree.leaves(params)]
  if shard_axes is not None:
    names = _as_tuple(shard_axes)
    tracked = _tracked_names(names)
    return tuple(tuple(n for n in names if n not in tracked or n in own) for own in varies)
  for name in sorted(frozenset().union(*varies).difference(_as_tuple(axis_name))):
    raise ValueError(
      f"{method}: params vary over the mesh axis {name!r}. Pass shard_axes=({name!r},) if they are"
      " sharded over it, so that norms and counts are over all shards, or shard_axes=() if each"
      " device has a model of its own"
    )
  return ((),) * len(varies)


def total(parts: list[jax.Array], axes: Axes | None = None) -> jax.Array:
  """Adds one scalar per leaf, over the leaves and over the devices that hold a leaf's shards."""
  axes = axes or ((),) * len(parts)
  by_names = {names: jnp.zeros((), parts[0].dtype) for names in axes}
  for part, names in zip(parts, axes, strict=True):
    by_names[names] += part
  sums = [
    jax.lax.psum(varying(part, names), names) if names else part for names, part in by_names.items()
  ]
  return sum(sums[1:], sums[0])


def varying_like_total(x: jax.Array, parts: list[jax.Array], axes: Axes) -> jax.Array:
  """Marks an array as varying over the axes that ``total(parts, axes)`` varies over."""
  return _cast(
    x, {n for p, names in zip(parts, axes, strict=True) for n in _varying_names(p) - {*names}}
  )


def size(params: Params, axes: Axes) -> int:
  """Returns the number of entries of the whole tree, over all shards."""
  shards = lambda names: jax.lax.axis_size(names) if names else 1
  return sum(
    jnp.size(x) * shards(names) for x, names in zip(jax.tree.leaves(params), axes, strict=True)
  )


def varying(tree: Params, axis_name: AxisName) -> Params:
  """Marks the tree as varying over the axis, if ``shard_map`` tracks varying axes.

  This is needed for two reasons. ``shard_map`` sums a gradient over the devices if the params do
  not vary. And ``cond`` and ``scan`` need the same marks on their inputs and outputs.
  """
  names = _tracked_names(axis_name)
  return jax.tree.map(lambda x: _cast(x, names), tree)


def varying_like(tree: Params, like: Params) -> Params:
  """Marks each leaf as varying over the axes over which the same leaf of ``like`` varies."""
  leaves, structure = jax.tree.flatten(tree)
  # By leaves, because nnx.Optimizer removes the variables of ``tree`` and not those of ``like``.
  pairs = zip(leaves, jax.tree.leaves(like), strict=True)
  return structure.unflatten(_cast(x, _varying_names(y)) for x, y in pairs)


def sum_like(x: jax.Array, like: jax.Array) -> jax.Array:
  """Returns the sum of a scalar over the axes over which it varies and ``like`` does not."""
  names = tuple(sorted(_varying_names(x) - _varying_names(like)))
  return jax.lax.psum(x, names) if names else x


def check_varying(method: str, updates: Params, axis_name: AxisName) -> None:
  """Raises an error if ``shard_map`` knows that the updates are the same on every device."""
  for name in _tracked_names(axis_name):
    if not all(name in _varying_names(x) for x in jax.tree.leaves(updates)):
      raise ValueError(
        f"{method}: updates do not vary over axis_name={name!r}: they were already averaged, or"
        " are gradients with respect to replicated params, which shard_map sums over devices."
        f" Pass per-device gradients: cast the params with jax.lax.pcast(params, {name!r},"
        f" to='varying'), or jax.lax.pvary(params, {name!r}) before JAX 0.8.2, and differentiate"
        " then."
      )


def _cast(x: jax.Array, names: Iterable[str]) -> jax.Array:
  """Marks an array as varying over the named axes, if it does not vary over them already."""
  missing = tuple(name for name in names if name not in _varying_names(x))
  if not missing:
    return x
  if hasattr(jax.lax, "pcast"):
    return jax.lax.pcast(x, missing, to="varying")
  return jax.lax.pvary(x, missing)  # before JAX 0.8.2 # pyright: ignore[reportAttributeAccessIssue]


def _as_tuple(axis_name: AxisName) -> tuple[str, ...]:
  """Returns ``axis_name`` as a tuple of names."""
  if axis_name is None:
    return ()
  return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)


def _tracked_names(axis_name: AxisName) -> tuple[str, ...]:
  """Returns the axes over which ``shard_map`` tracks whether a value varies."""
  return tuple(n for n in _as_tuple(axis_name) if n in _varying_names(jax.lax.axis_index(n)))


def _varying_names(x: Any) -> frozenset[str]:
  """Returns the mesh axes over which ``shard_map`` knows that an array varies."""
  kind = jax.typeof(x)
  return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
