"""Arithmetic on pytrees, computed in float32 or wider."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt import _devices
from flatopt._typing import Axes, Params


def wide_dtype(*leaves: Any) -> Any:
  """Returns the dtype to compute in: float32 or float64, or the complex one of this precision."""
  dtypes = [jnp.result_type(leaf) for leaf in leaves]
  is_double = any(dtype in (jnp.float64, jnp.complex128) for dtype in dtypes)
  if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
    return jnp.dtype(jnp.complex128 if is_double else jnp.complex64)
  return jnp.dtype(jnp.float64 if is_double else jnp.float32)


def map_wide(fn: Callable[..., jax.Array], scalars: tuple[Any, ...], *trees: Params) -> Params:
  """Maps ``fn(*scalars, *leaves)`` over the trees, and computes in float32 or wider.

  Scalars and leaves are cast to the wide dtype of the leaf of the first tree; bool leaves stay
  bool. The result is cast back to the dtype of the leaf of the first tree.
  """

  def map_leaf(*leaves):
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    dtype = wide_dtype(leaves[0])
    wide = [leaf if leaf.dtype == bool else leaf.astype(dtype) for leaf in leaves]
    return fn(*(jnp.asarray(s, dtype) for s in scalars), *wide).astype(leaves[0].dtype)

  return jax.tree.map(map_leaf, *trees)


def cast_like(tree: Params, like: Params) -> Params:
  """Casts each leaf to the dtype of the same leaf of ``like``."""
  return jax.tree.map(lambda x, y: jnp.asarray(x, jnp.result_type(y)), tree, like)


def where(condition: jax.Array, if_true: Params, if_false: Params) -> Params:
  """Selects one of two trees by a scalar condition."""
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def norm(tree: Params, axes: Axes | None = None) -> jax.Array:
  """Returns the global l2 norm in float32 or wider; it is not finite if an entry is not finite.

  With ``axes`` (those of ``_devices.leaf_axes``), every device gets the norm of the whole tree.
  """
  leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
  axes = axes or ((),) * len(leaves)
  groups = {names: [] for names in axes}
  for leaf, names in zip(leaves, axes, strict=True):
    groups[names].append(leaf)
  norms = [_norm_over_devices(_local_norm(group), names) for names, group in groups.items()]
  return norms[0] if len(norms) == 1 else _local_norm(norms)


@jax.jit  # so that it is compiled once per set of shapes when an update runs outside jit
def _local_norm(leaves: list[jax.Array]) -> jax.Array:
  """Returns the norm on one device.

  If the sum of squares overflows or underflows, a second pass scales the entries first.
  """
  dtype = wide_dtype(*leaves)
  limits = jnp.finfo(dtype)

  def sum_of_squares(divisor=None):
    wide = [x.astype(dtype) for x in leaves]
    scaled = wide if divisor is None else [x / divisor for x in wide]
    return sum((jnp.sum(jnp.square(x)) for x in scaled), jnp.zeros((), dtype))

  squares = sum_of_squares()

  def scaled_norm():
    exponent = 2 * limits.maxexp // 3
    divisor = jnp.where(squares < 1, 2.0**-exponent, 2.0**exponent).astype(dtype)
    return divisor * sqrt(sum_of_squares(divisor))

  in_range = (squares > float(limits.tiny) ** 0.5) & (squares < jnp.inf)
  return jax.lax.cond(in_range, lambda: sqrt(squares), scaled_norm)


def _norm_over_devices(norm: jax.Array, names: tuple[str, ...]) -> jax.Array:
  """Returns the norm over all shards, from the norm of this device's shard."""
  if not names:
    return norm
  norm = _devices.varying(norm, names)
  largest = jax.lax.pmax(jax.lax.stop_gradient(norm), names)
  divisor = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
  return divisor * sqrt(jax.lax.psum(jnp.square(norm / divisor), names))


def sqrt(x: jax.Array) -> jax.Array:
  """Returns the square root, with derivative 0 at 0."""
  return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))


def dot(a: Params, b: Params, axes: Axes | None = None) -> jax.Array:
  """Returns the inner product over all leaves, in float32 or wider; ``axes`` as in ``norm``."""
  dtype = wide_dtype(*jax.tree.leaves((a, b)))
  product = lambda x, y: jnp.sum(jnp.asarray(x, dtype) * jnp.asarray(y, dtype))
  return _devices.total(jax.tree.leaves(jax.tree.map(product, a, b)), axes)


def interpolate(alpha: Any, start: Params, end: Params) -> Params:
  """Returns ``start + alpha * (end - start)``."""
  return map_wide(lambda a, x, y: x + a * (y - x), (alpha,), start, end)


def increment(count: jax.Array) -> jax.Array:
  """Returns ``count + 1``, or ``count`` itself if it is the largest integer."""
  return jnp.asarray(optax.safe_increment(count))


def projection_coefficient(tree: Params, onto: Params, axes: Axes | None = None) -> jax.Array:
  """Returns ``<tree, onto> / ||onto||^2``; ``axes`` as in ``norm``.

  The denominator is 1 if ``||onto||^2`` is 0, so for ``onto = 0`` the result is 0.
  """
  square = dot(onto, onto, axes)
  return dot(tree, onto, axes) / jnp.where(square == 0, 1, square)
