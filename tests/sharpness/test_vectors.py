"""How the leaves of a vector are joined, and taken apart again."""

import jax
import jax.numpy as jnp
import numpy as np

from flatopt.sharpness import vectors


def make_large(monkeypatch):
  """Leaves of more than six entries, where all together have more than ten."""
  monkeypatch.setattr(vectors, "_SMALL", 6)
  monkeypatch.setattr(vectors, "_SMALL_IN_ALL", 10)


def test_small_leaves_are_joined_flat_and_large_ones_of_a_shape_stacked(monkeypatch):
  make_large(monkeypatch)
  leaves = [
    jnp.full(shape, i, jnp.float32) for i, shape in enumerate([(3,), (2, 4), (2, 3), (2, 4)])
  ]
  leaves[2] += jnp.arange(3.0)
  pack, unpack = vectors.packing(leaves)
  flat, stacked = pack(leaves)
  assert flat.tolist() == [0, 0, 0, 2, 3, 4, 2, 3, 4]
  assert stacked.shape == (2, 2, 4)
  for leaf, again in zip(leaves, unpack([flat, stacked]), strict=True):
    np.testing.assert_array_equal(again, leaf)


def test_precisions_are_not_mixed(x64):
  leaves = [jnp.ones(2, jnp.float32), jnp.ones(3), jnp.ones(4, jnp.bfloat16)]
  narrow, wide = vectors.packing(leaves)[0](leaves)
  assert (narrow.dtype, narrow.shape, wide.dtype, wide.shape) == ("float32", (6,), "float64", (3,))


def test_large_leaves_are_drawn_by_keys_of_their_own(monkeypatch):
  make_large(monkeypatch)
  leaves = [jnp.zeros(shape) for shape in [(3,), (2, 4), (8,)]]
  drawn = [vectors.normal(jax.random.key(seed), leaves) for seed in (0, 1)]
  entries = np.concatenate([np.ravel(x) for x in jax.tree.leaves(drawn)])
  assert len({*entries.tolist()}) == 2 * (3 + 8 + 8)
