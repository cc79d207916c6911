"""Mesh axes under ``pmap`` and ``shard_map``.

Over a data axis (a method's ``axis_name``) gradients differ and are averaged. Params may also be
sharded over other axes: then sums over their leaves are sums over devices.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt._typing import Axes, AxisName, Params


def mean(tree: Params, axis_name: AxisName) -> Params:
  """Returns the mean over the axis, or the tree itself if there is no axis."""
  return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def shard_axes(params: Params, axis_name: AxisName = None) -> Axes:
  """Returns, for each leaf, the mesh axes that it is sharded over.

  These are the axes over which the leaf varies, without the data axes. They are empty if
  ``shard_map`` does not track varying axes (``check_vma=False``), and under ``pmap``.
  """
  data_axes = _as_tuple(axis_name)
  names = (_varying_names(x).difference(data_axes) for x in jax.tree.leaves(params))
  return tuple(tuple(sorted(n)) for n in names)


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


def check_varying(method: str, updates: Params, axis_name: AxisName) -> None:
  """Raises an error if ``shard_map`` knows that the updates are the same on every device."""
  for name in _tracked_names(axis_name):
    if not all(name in _varying_names(x) for x in jax.tree.leaves(updates)):
      raise ValueError(
        f"{method}: updates do not vary over axis_name={name!r}: they were already averaged, or"
        " are gradients with respect to replicated params, which shard_map sums over devices."
        f" Pass per-device gradients: cast the params with jax.lax.pcast(params, {name!r},"
        " to='varying') before differentiating."
      )


def warn_if_replicas_diverge(
  method: str, updates: Params, params: Params, closures: dict[str, Callable[..., Any]]
) -> None:
  """Warns if the method runs on several devices and neither it nor a closure averages.

  If ``shard_map`` tracks varying axes, this is the case for an axis over which the updates vary
  and the params do not. Otherwise it is the case for every manual axis over which no closure sums.
  """
  manual = jax.sharding.get_abstract_mesh().manual_axes
  if not manual:
    return
  arguments = {"grad_fn": (params,), "sampled_grad_fn": (params, jax.random.key(0))}
  programs = [str(jax.make_jaxpr(fn)(*arguments[name])) for name, fn in closures.items()]
  for name in manual:
    tracked = name in _tracked_names(name)
    # If the axis is tracked, a sum in a closure is no evidence: shard_map itself may have added it.
    diverge = _vary_more(updates, params, name) if tracked else not _any_sums(programs, name)
    if diverge:
      warnings.warn(
        f"{method}: runs on the devices of axis {name!r} with axis_name=None: each device uses"
        " the loss of its own part of the batch, and replicas drift apart silently. Pass"
        f" axis_name={name!r} and each device's own gradient, or average inside grad_fn",
        stacklevel=4,
      )


def _vary_more(updates: Params, params: Params, name: str) -> bool:
  """Whether a leaf of the updates varies over the axis and the same leaf of the params does not."""
  return any(
    name in _varying_names(u) and name not in _varying_names(w)
    for u, w in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True)
  )


def _any_sums(programs: list[str], name: str) -> bool:
  """Whether one of the programs (the text of a jaxpr) sums over the axis."""
  collective = rf"\b(psum|all_gather|reduce_scatter)\w*\[[^\]]*'{name}'"
  return any(re.search(collective, program) for program in programs)


def _cast(x: jax.Array, names: Iterable[str]) -> jax.Array:
  """Marks an array as varying over the named axes, if it does not vary over them already."""
  missing = tuple(name for name in names if name not in _varying_names(x))
  return jax.lax.pcast(x, missing, to="varying") if missing else x


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
  return jax.typeof(x).manual_axis_type.varying
