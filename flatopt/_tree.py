"""Arithmetic on pytrees, carried out in at least float32."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt._typing import Params


def wide_dtype(*leaves: Any) -> Any:
  """The dtype to compute in: float64 where a leaf has it, else float32."""
  is_double = any(jnp.result_type(leaf) == jnp.float64 for leaf in leaves)
  return jnp.dtype(jnp.float64 if is_double else jnp.float32)


def map_wide(fn: Callable[..., jax.Array], scalars: tuple[Any, ...], *trees: Params) -> Params:
  """Maps ``fn(*scalars, *leaves)`` over the trees in at least float32.

  Scalars and leaves take the wide dtype of the first tree's leaf, bool leaves stay
  bool, and the result is cast back to the dtype of the first tree's leaf.
  """

  def map_leaf(*leaves):
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    dtype = wide_dtype(leaves[0])
    wide = [leaf if leaf.dtype == bool else leaf.astype(dtype) for leaf in leaves]
    return fn(*(jnp.asarray(s, dtype) for s in scalars), *wide).astype(leaves[0].dtype)

  return jax.tree.map(map_leaf, *trees)


def cast_like(tree: Params, like: Params) -> Params:
  return jax.tree.map(lambda x, y: jnp.asarray(x, jnp.result_type(y)), tree, like)


def where(condition: jax.Array, if_true: Params, if_false: Params) -> Params:
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def norm(tree: Params) -> jax.Array:
  """The global l2 norm, in at least float32; not finite where any entry is not.

  Dividing by the largest entry before squaring keeps very small and very large ones in
  range.
  """
  leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
  dtype = wide_dtype(*leaves)
  maxima = [jnp.max(jnp.abs(x), initial=0).astype(dtype) for x in leaves]
  largest = jnp.max(jnp.stack(maxima))
  inverse = 1 / jnp.maximum(largest, jnp.finfo(dtype).tiny)
  squares = [jnp.sum(jnp.square(x.astype(dtype) * inverse)) for x in leaves]
  return largest * jnp.sqrt(sum(squares, jnp.zeros((), dtype)))


def dot(a: Params, b: Params) -> jax.Array:
  """The inner product over all leaves, in at least float32."""
  dtype = wide_dtype(*jax.tree.leaves((a, b)))
  product = lambda x, y: jnp.sum(jnp.asarray(x, dtype) * jnp.asarray(y, dtype))
  return sum(jax.tree.leaves(jax.tree.map(product, a, b)), jnp.zeros((), dtype))


def interpolate(alpha: Any, start: Params, end: Params) -> Params:
  """``start + alpha * (end - start)``."""
  return map_wide(lambda a, x, y: x + a * (y - x), (alpha,), start, end)


def increment(count: jax.Array) -> jax.Array:
  """``optax.safe_increment`` of an array."""
  return jnp.asarray(optax.safe_increment(count))


def projection_coefficient(tree: Params, onto: Params) -> jax.Array:
  """``<tree, onto> / ||onto||^2``, 0 where ``onto`` is zero."""
  length = norm(onto)
  unit = map_wide(lambda n, x: x / n, (jnp.where(length > 0, length, 1),), onto)
  return jnp.where(length > 0, dot(tree, unit) / jnp.where(length > 0, length, 1), 0)
