"""kth_smallest against numpy.partition."""

import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from flatopt import kth_smallest
from flatopt.kth_smallest import LOW_BITS, add_counts, count_true, less

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
select = jax.jit(kth_smallest)


def special_values(dtype):
  """Ties, both zeros, infinities, NaN of both signs, the largest and smallest numbers."""
  info = ml_dtypes.finfo(dtype)
  special = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, np.nan, 1.5, 1.5, -1.5, -1.5]
  extreme = [info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal]
  usual = np.random.default_rng(0).normal(size=8)
  values = np.concatenate([np.asarray(x, dtype) for x in (special, extreme, usual, usual[:3])])
  return np.random.default_rng(1).permutation(values)


def as_tree(values):
  """Leaves of several shapes, a scalar and an empty one among them."""
  a, b, c = np.split(values, [1, 13])
  leaves = {"scalar": a.reshape(()), "matrix": b.reshape(3, 4), "rest": c, "empty": c[:0]}
  return jax.tree.map(jnp.asarray, leaves)


def kth_by_partition(values, k):
  """NaN sorts last in NumPy, too, whatever its sign."""
  return np.partition(np.asarray(values, np.float64), k - 1)[k - 1]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_every_k(x64, dtype):
  values = special_values(dtype)
  tree = as_tree(values)
  for k in range(1, values.size + 1):
    result = select(tree, jnp.array(k))
    assert result.dtype == dtype
    np.testing.assert_array_equal(np.float64(result), kth_by_partition(values, k))


@pytest.mark.parametrize("shape", [(), (0,), (255,), (256,), (5, 103), (3, 16, 32), (70_001,)])
@pytest.mark.parametrize("num_devices", [1, 8])
def test_counts_every_flag_once(monkeypatch, shape, num_devices):
  """One device counts 16 flags at a time, and all of these may be True."""
  monkeypatch.setattr(jax, "device_count", lambda: num_devices)
  for share in (0.3, 1):
    flags = np.random.default_rng(0).random(shape) < share
    total = count_true(jnp.asarray(flags))
    assert total.dtype == jnp.uint32
    assert int(total) == np.sum(flags)


def test_mixed_dtypes_are_promoted(x64):
  rng = np.random.default_rng(0)
  leaves = [rng.normal(size=7).astype(dtype) for dtype in DTYPES]
  values = np.concatenate([x.astype(np.float64) for x in leaves])
  for k in range(1, values.size + 1):
    result = select(leaves, jnp.array(k))
    assert result.dtype == jnp.float64
    assert result == kth_by_partition(values, k)


def test_half_precision_formats_meet_in_float32():
  leaves = [jnp.array([1.0, 3.0], jnp.float16), jnp.array([2.0**100], jnp.bfloat16)]
  result = kth_smallest(leaves, 3)
  assert result.dtype == jnp.float32
  assert result == 2.0**100


def test_a_single_entry():
  assert kth_smallest(jnp.array(-3.0), 1) == -3
  assert np.isnan(kth_smallest(jnp.array(np.nan), 1))


def test_larger_leaves():
  values = np.random.default_rng(0).normal(size=(3, 40_000)).astype(np.float32)
  tree = list(map(jnp.asarray, values))
  for k in (1, 2, 65_535, 65_536, 65_537, 119_999, 120_000):
    assert select(tree, jnp.array(k)) == kth_by_partition(values.ravel(), k)


@pytest.mark.parametrize(
  "k",
  [2, np.int64(2), np.array(2), np.array(2, np.int8), jnp.array(2, jnp.uint8), jnp.array(2)],
  ids=["int", "numpy", "numpy_array", "numpy_int8", "uint8", "int32"],
)
def test_k_may_be_any_integer(k):
  assert kth_smallest(jnp.array([3.0, 1.0, 2.0]), k) == 2


LARGEST_COUNT = 2**31 - 1


@pytest.mark.parametrize(
  "counts", [[0], [2**16, 2**16 - 1], [LARGEST_COUNT] * 5, [2**31 - 1, 1, 7], [65_535] * 1000]
)
def test_counts_are_added_beyond_32_bits(counts):
  high, low = add_counts([jnp.uint32(c) for c in counts])
  assert int(low) < 2**LOW_BITS
  assert int(high) * 2**LOW_BITS + int(low) == sum(counts)


def test_parts_are_compared_high_first():
  numbers = [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**32 - 1, 2**32, 2**40 + 5, 2**40 + 6]
  counts = [tuple(map(jnp.uint32, divmod(n, 2**LOW_BITS))) for n in numbers]
  for i, a in enumerate(counts):
    assert [bool(less(a, b)) for b in counts] == [i < j for j in range(len(counts))]


def test_two_parts_select_like_one(monkeypatch):
  """With 3 low bits, 40 entries are what 2^18 are with 16."""
  monkeypatch.setattr(sys.modules[less.__module__], "LOW_BITS", 3)
  values = np.random.default_rng(0).integers(0, 20, 40).astype(np.float32)
  tree = list(map(jnp.asarray, np.split(values, [3, 25])))
  of_parts = jax.jit(lambda tree, k: kth_smallest(tree, k))
  for k in range(1, 41):
    assert of_parts(tree, jnp.array(k)) == kth_by_partition(values, k)
  assert kth_smallest(tree, 33) == kth_by_partition(values, 33)


def test_works_op_by_op():
  with jax.disable_jit():
    assert kth_smallest(jnp.array([3.0, 1.0, 2.0]), 2) == 2


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3b11fnuz, jnp.float8_e5m2, jnp.float8_e4m3fn])
def test_one_byte(dtype):
  """In the first of these formats the largest number has the code that all others have for NaN."""
  largest = jnp.finfo(dtype).max
  x = jnp.array([1.0, jnp.nan, -2.0, 0.0, 3.0, largest]).astype(dtype)
  ordered = [float(kth_smallest(x, k)) for k in range(1, 7)]
  np.testing.assert_array_equal(ordered, np.array([-2, 0, 1, 3, largest, np.nan], float))


@pytest.mark.slow
@pytest.mark.parametrize(("k", "expected"), [(34 * 63 * 2**20, 1.0), (34 * 63 * 2**20 + 1, 2.0)])
def test_ranks_beyond_31_bits(k, expected):
  """34 leaves of 2^26 entries, the last 2^20 of each larger: 5 GB, op by op.

  Compiled for CPUs, the counts of all leaves would want 4 bytes an entry at once.
  """
  assert k > 2**31
  leaf = jnp.where(jnp.arange(2**26, dtype=jnp.int32) < 63 * 2**20, 1.0, 2.0)
  leaf = leaf.astype(jnp.float8_e4m3fn)
  with jax.disable_jit():
    assert kth_smallest([leaf] * 34, k) == expected
