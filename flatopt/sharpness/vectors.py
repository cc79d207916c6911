"""Vectors like the params: random ones, and ones whose leaves are joined into few arrays.

XLA's compile time grows with the number of arrays, and with the number of draws most of all.
"""

import itertools
import math
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from flatopt import _tree
from flatopt._typing import Params

Pack: TypeAlias = Callable[[list[jax.Array]], list[jax.Array]]
# How many entries of one leaf, and of all, may be gathered on every device of a mesh.
_SMALL, _SMALL_IN_ALL = 2**16, 2**20


def normal(key: jax.Array, like: Params) -> Params:
  """Draws independent standard normal entries, in float32 or wider."""
  leaves, structure = jax.tree.flatten(like)
  pack, unpack = packing(leaves, by_sharding=False)  # the same draws on every mesh
  shapes = jax.eval_shape(pack, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves])
  keys = jax.random.split(key, len(shapes)) if len(shapes) > 1 else [key]
  arrays = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, shapes, strict=True)]
  return structure.unflatten(unpack(arrays))


def signs(key: jax.Array, like: Params) -> Params:
  """Draws independent entries +1 or -1: the signs of ``normal(key, like)``."""
  return signs_of(normal(key, like))


def signs_of(vector: Params) -> Params:
  """Returns -1 where an entry is negative, and +1 elsewhere."""
  return jax.tree.map(lambda x: jnp.where(x < 0, -1, 1).astype(x.dtype), vector)


def packing(leaves: list[jax.Array], *, by_sharding: bool = True) -> tuple[Pack, Pack]:
  """Returns ``(pack, unpack)``, which join leaves into few arrays in float32 or wider, and back.

  All small leaves are joined flat, and large leaves of the same shape are stacked: a large leaf
  keeps its own axes, because these may be sharded. With ``by_sharding``, only leaves of the same
  sharding are joined, where JAX knows it: on meshes with explicit axes.
  """
  small = _SMALL_IN_ALL if sum(x.size for x in leaves) <= _SMALL_IN_ALL else _SMALL
  groups: dict[tuple[Any, Hashable], list[int]] = {}
  for i, leaf in enumerate(leaves):
    sharding = jax.typeof(leaf).sharding if by_sharding else None
    is_sharded = sharding is not None and any(name is not None for name in sharding.spec)
    kind = (leaf.shape, sharding) if is_sharded or leaf.size > small else None
    groups.setdefault((_tree.wide_dtype(leaf), kind), []).append(i)
  shapes = [x.shape for x in leaves]

  def pack(leaves):
    wide = [jnp.asarray(x, _tree.wide_dtype(x)) for x in leaves]
    part = lambda i, is_flat: wide[i].ravel() if is_flat else wide[i][None]
    return [
      jnp.concatenate([part(i, kind is None) for i in members]) if members[1:] else wide[members[0]]
      for (_, kind), members in groups.items()
    ]

  def unpack(arrays):
    parts: dict[int, jax.Array] = {}
    for ((_, kind), members), array in zip(groups.items(), arrays, strict=True):
      lengths = [math.prod(shapes[i]) if kind is None else 1 for i in members]
      ends = list(itertools.accumulate(lengths))[:-1]
      parts |= zip(members, jnp.split(array, ends) if ends else [array], strict=True)
    return [parts[i].reshape(shape) for i, shape in enumerate(shapes)]

  return pack, unpack
