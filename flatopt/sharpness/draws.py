"""Random pytrees like the params."""

import jax
import jax.numpy as jnp

from flatopt import _tree
from flatopt._typing import Params
from flatopt.sharpness.packing import packing


def normal(key: jax.Array, like: Params) -> Params:
  """Draws independent standard normal entries, in float32 or wider."""
  leaves, structure = jax.tree.flatten(like)
  pack = packing(leaves, by_sharding=False)  # the same draws on every mesh
  shapes = jax.eval_shape(pack.pack, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves])
  keys = jax.random.split(key, len(shapes)) if len(shapes) > 1 else [key]
  arrays = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, shapes, strict=True)]
  # The product with ones has the sharding of the leaf, which meshes with explicit axes need.
  ones = (jnp.ones_like(x, dtype=_tree.wide_dtype(x)) for x in leaves)
  return structure.unflatten(x * one for x, one in zip(pack.unpack(arrays), ones, strict=True))


def signs(key: jax.Array, like: Params) -> Params:
  """Draws independent entries +1 or -1, in float32 or wider."""
  return signs_of(normal(key, like))


def signs_of(vector: Params) -> Params:
  """Returns +1 where an entry is 0 or positive, and -1 elsewhere."""
  return jax.tree.map(lambda x: jnp.where(x < 0, -1, 1).astype(x.dtype), vector)
