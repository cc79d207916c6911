"""The k-th smallest entry of a pytree, without sorting it or moving it between devices."""

import functools
import numbers
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatopt import _arguments, _devices, _tree
from flatopt._typing import Axes, BigCount, Params, ShardAxes

LOW_BITS = 16


def kth_smallest(
  tree: Params, k: jax.typing.ArrayLike, *, shard_axes: ShardAxes = None
) -> jax.Array:
  """Returns exactly the k-th smallest of all entries of all leaves together.

  Floats are mapped to unsigned integers in the same order. Then the bits of the result are found
  one by one, the highest first: a bit is 1 if fewer than ``k`` entries are below the number that
  has this bit and the bits found so far. Nothing is sorted or concatenated, and only counts are
  sent between devices. Cost: no gradient; one counting pass over the leaves per bit of the dtype.

  Args:
    tree: pytree of real floating arrays. Leaves of different dtypes are compared in their promoted
      dtype. Each leaf must have fewer than 2^31 entries; the total may be larger. Infinities are
      ordered. NaN sorts last, with either sign.
    k: rank, from 1 to the number of entries; an int, or an integer scalar array (unchecked).
    shard_axes: as in ``sam``; the rank is among the entries of all shards.

  Returns:
    A scalar of the promoted dtype.

  Raises:
    ValueError: the tree has no entries, a leaf is too large, ``k`` is out of range, or a leaf
      varies over a mesh axis and ``shard_axes`` is ``None``.
    TypeError: a leaf is not real floating, or ``k`` is not an integer.

  Example:
    >>> import jax.numpy as jnp
    >>> import flatopt
    >>> tree = {"a": jnp.array([3.0, -1.0]), "b": jnp.array([[2.0, 7.0]])}
    >>> float(flatopt.kth_smallest(tree, 2))
    2.0
  """
  leaves = jax.tree.leaves(tree)
  axes = _devices.leaf_axes("kth_smallest", leaves, None, shard_axes)
  size = _devices.size(leaves, axes)
  if size == 0:
    raise ValueError("kth_smallest: tree has no entries; it must have one or more")
  for leaf in leaves:
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
      raise TypeError(
        f"kth_smallest: tree holds {jnp.result_type(leaf)}; leaves must be real floating"
      )
    if jnp.size(leaf) >= 2**31:
      raise ValueError(
        f"kth_smallest: a leaf has {jnp.size(leaf)} entries; each must have fewer than 2^31"
      )
  dtypes = {jnp.result_type(leaf) for leaf in leaves}
  dtype = dtypes.pop() if len(dtypes) == 1 else _tree.wide_dtype(*leaves)
  # In one byte, some formats have no code that could come after all others and be NaN.
  wide = jnp.dtype(jnp.bfloat16) if dtype.itemsize == 1 else dtype
  ordered = [to_ordered_integers(jnp.asarray(leaf, wide)) for leaf in leaves]
  return from_ordered_integer(
    kth_smallest_ordered(ordered, _checked_rank(k, size), axes), wide
  ).astype(dtype)


def _checked_rank(k: Any, size: int) -> BigCount:
  """Checks the rank and returns it in two parts."""
  if isinstance(k, (jax.Array, np.ndarray)):
    if k.shape != () or not jnp.issubdtype(k.dtype, jnp.integer):
      raise TypeError(
        f"kth_smallest: k must be an integer scalar, got {k.dtype} of shape {k.shape}"
      )
    k = k.astype(jnp.int32) if k.dtype.itemsize < 4 else k
    high, low = k >> LOW_BITS, k & (2**LOW_BITS - 1)
    return jnp.asarray(high).astype(jnp.uint32), jnp.asarray(low).astype(jnp.uint32)
  if isinstance(k, bool) or not isinstance(k, numbers.Integral):
    raise TypeError(f"kth_smallest: k must be an integer, got {_arguments.describe(k)}")
  k = operator.index(k)
  if not 1 <= k <= size:
    raise ValueError(f"kth_smallest: k must be from 1 to {size}, the number of entries; got {k}")
  high, low = divmod(k, 2**LOW_BITS)
  return jnp.uint32(high), jnp.uint32(low)


@functools.partial(jax.jit, static_argnames="axes")  # so that it is compiled once outside jit, too
def kth_smallest_ordered(ordered: list[jax.Array], rank: BigCount, axes: Axes) -> jax.Array:
  """Returns the k-th smallest of unsigned integers; the rank is ``high * 2^16 + low``, unchecked.

  ``axes`` are the mesh axes that each leaf is sharded over (``_devices.leaf_axes``).
  """
  unsigned = ordered[0].dtype
  bits = unsigned.itemsize * 8

  def fix_bit(i, answer):
    candidate = answer | (jnp.ones((), unsigned) << jnp.asarray(bits - 1 - i, unsigned))
    below = add_counts([count_true(x < candidate) for x in ordered], axes)
    return jnp.where(less(below, rank), candidate, answer)

  # The loop carries a number that varies over devices exactly if its result does.
  parts, none = [*ordered, *rank], ((),) * len(rank)
  start = _devices.varying_like_total(jnp.zeros((), unsigned), parts, axes + none)
  return jax.lax.fori_loop(0, bits, fix_bit, start)


def count_true(flags: jax.Array) -> jax.Array:
  """Counts the True entries, as uint32.

  XLA:CPU writes what a long sum adds into memory, four bytes for each flag. If 16 flags are first
  added as uint8, it writes only these sums. This needs a reshape, which must not happen to flags
  that are spread over devices; and under ``jit`` nobody knows yet whether they are.
  """
  add = lambda x: jnp.sum(x, dtype=jnp.uint32)
  if jax.device_count() > 1:
    return add(flags)
  rows, rest = jnp.split(jnp.ravel(flags), [flags.size - flags.size % 256])
  return add(jnp.sum(rows.reshape(-1, 16, 16), axis=1, dtype=jnp.uint8)) + add(rest)


def add_counts(counts: list[jax.Array], axes: Axes | None = None) -> BigCount:
  """Adds uint32 counts into two parts, so that the total may be larger than 2^32."""
  mask = jnp.uint32(2**LOW_BITS - 1)
  low = _devices.total([c & mask for c in counts], axes)
  high = _devices.total([c >> LOW_BITS for c in counts], axes)
  return high + (low >> LOW_BITS), low & mask


def less(a: BigCount, b: BigCount) -> jax.Array:
  """Whether ``a < b``."""
  return (a[0] < b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))


def to_ordered_integers(x: jax.Array) -> jax.Array:
  """Maps floats to unsigned integers in the same order; NaN comes last.

  In negative floats every bit is flipped, in others the sign bit.
  """
  unsigned = jnp.dtype(f"uint{x.dtype.itemsize * 8}")
  bits = jax.lax.bitcast_convert_type(x, unsigned)
  sign = jnp.array(1, unsigned) << (unsigned.itemsize * 8 - 1)
  ordered = jnp.where(bits & sign, ~bits, bits | sign)
  return jnp.where(jnp.isnan(x), ~jnp.zeros((), unsigned), ordered)


def from_ordered_integer(ordered: jax.Array, dtype: Any) -> jax.Array:
  """Returns the float of an integer that ``to_ordered_integers`` made."""
  sign = jnp.array(1, ordered.dtype) << (ordered.dtype.itemsize * 8 - 1)
  bits = jnp.where(ordered & sign, ordered ^ sign, ~ordered)
  return jax.lax.bitcast_convert_type(bits, dtype)
