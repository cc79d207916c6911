"""Vectors like the params: random ones, and ones whose leaves are joined into few arrays.

XLA's compile time grows with the number of arrays, and with the number of draws most of all.
"""

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from flatopt import _tree
from flatopt._typing import Params

Vector: TypeAlias = list[jax.Array]
Packing: TypeAlias = tuple[Callable[[Vector], Vector], Callable[[Vector], Vector]]
_SMALL = 2**16  # entries of a leaf that may be gathered on every device of a mesh


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


def packing(leaves: list[jax.Array], *, by_sharding: bool = True) -> Packing:
  """Returns functions that join leaves into few arrays, in float32 or wider, and split them again.

  All small leaves are joined flat, and large leaves of a shape are stacked: they keep their own
  axes, because these may be sharded. With ``by_sharding``, only leaves of the same sharding are
  joined, where JAX knows it: on meshes with explicit axes.
  """
  groups: dict[tuple[Any, Hashable], list[int]] = {}
  for i, leaf in enumerate(leaves):
    sharding = jax.typeof(leaf).sharding if by_sharding else None
    is_sharded = sharding is not None and any(name is not None for name in sharding.spec)
    kind = (leaf.shape, sharding) if is_sharded or leaf.size > _SMALL else None
    groups.setdefault((_tree.wide_dtype(leaf), kind), []).append(i)

  def pack(leaves):
    arrays = []
    for (dtype, kind), members in groups.items():
      parts = [jnp.asarray(leaves[i], dtype) for i in members]
      if len(parts) == 1:
        arrays += parts
      else:
        arrays.append(jnp.stack(parts) if kind else jnp.concatenate([x.ravel() for x in parts]))
    return arrays

  wide = [jnp.zeros_like(x, dtype=_tree.wide_dtype(x)) for x in leaves]
  # It only moves entries to other places, so its transpose moves them back.
  unpack = lambda arrays: jax.linear_transpose(pack, wide)(arrays)[0]
  return pack, unpack
