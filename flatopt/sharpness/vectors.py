"""Vectors like the params: random ones, and ones whose leaves are joined into few arrays.

XLA's compile time grows with the number of arrays, and with the number of draws most of all.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flatopt import _tree
from flatopt._typing import Params

# How many entries of one leaf, and of all, may be gathered on every device of a mesh.
_SMALL, _SMALL_IN_ALL = 2**16, 2**20


def normal(key: jax.Array, like: Params) -> Params:
  """Draws independent standard normal entries, in float32 or wider."""
  leaves, structure = jax.tree.flatten(like)
  pack = packing(leaves, by_sharding=False)  # the same draws on every mesh
  shapes = jax.eval_shape(pack.pack, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves])
  keys = jax.random.split(key, len(shapes)) if len(shapes) > 1 else [key]
  arrays = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, shapes, strict=True)]
  return structure.unflatten(pack.unpack(arrays))


def signs(key: jax.Array, like: Params) -> Params:
  """Draws independent entries +1 or -1: the signs of ``normal(key, like)``."""
  return signs_of(normal(key, like))


def signs_of(vector: Params) -> Params:
  """Returns -1 where an entry is negative, and +1 elsewhere."""
  return jax.tree.map(lambda x: jnp.where(x < 0, -1, 1).astype(x.dtype), vector)


class Packing(NamedTuple):
  """Which leaves are joined: all small ones flat into one array, large ones of a shape stacked.

  A large leaf keeps its own axes, because these may be sharded.
  """

  shapes: tuple[tuple[int, ...], ...]
  groups: tuple[tuple[int, ...], ...]  # the indices of the leaves of each array
  flat: tuple[bool, ...]  # whether the leaves of a group are joined flat, or else stacked

  def pack(self, leaves: list[jax.Array]) -> list[jax.Array]:
    """Returns the arrays, in float32 or wider."""
    wide = [jnp.asarray(x, _tree.wide_dtype(x)) for x in leaves]
    arrays = []
    for members, flat in zip(self.groups, self.flat, strict=True):
      parts = [wide[i] for i in members]
      if len(parts) == 1:
        arrays += parts
      else:
        arrays.append(jnp.concatenate([x.ravel() for x in parts]) if flat else jnp.stack(parts))
    return arrays

  def unpack(self, arrays: list[jax.Array]) -> list[jax.Array]:
    """Returns the leaves."""
    leaves: dict[int, jax.Array] = {}
    for array, members, flat in zip(arrays, self.groups, self.flat, strict=True):
      if len(members) == 1:
        parts = [array]
      elif flat:
        ends = np.cumsum([np.prod(self.shapes[i], dtype=int) for i in members])
        pieces = jnp.split(array, ends[:-1])
        parts = [x.reshape(self.shapes[i]) for x, i in zip(pieces, members, strict=True)]
      else:
        parts = [array[j] for j in range(len(members))]
      leaves |= zip(members, parts, strict=True)
    return [leaves[i] for i in range(len(leaves))]


def packing(leaves: list[jax.Array], *, by_sharding: bool = True) -> Packing:
  """Decides which leaves to join.

  With ``by_sharding``, only leaves of the same sharding, where JAX knows it: on meshes with
  explicit axes.
  """
  small = _SMALL_IN_ALL if sum(x.size for x in leaves) <= _SMALL_IN_ALL else _SMALL
  groups: dict[tuple[Any, Hashable], list[int]] = {}
  for i, leaf in enumerate(leaves):
    sharding = jax.typeof(leaf).sharding if by_sharding else None
    is_sharded = sharding is not None and any(name is not None for name in sharding.spec)
    kind = (leaf.shape, sharding) if is_sharded or leaf.size > small else None
    groups.setdefault((_tree.wide_dtype(leaf), kind), []).append(i)
  return Packing(
    tuple(x.shape for x in leaves),
    tuple(map(tuple, groups.values())),
    tuple(kind is None for _, kind in groups),
  )
