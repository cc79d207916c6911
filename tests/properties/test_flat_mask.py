"""What holds for IRE's mask, whatever the curvature."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import example, given
from hypothesis import strategies as st

import flatopt

SIZE = 8
# With the identity for an estimator the updates are their own curvature.
METHOD = lambda flat_fraction: flatopt.ire(
  1.0, flat_fraction=flat_fraction, curvature=optax.identity()
)
ties = st.lists(st.integers(-3, 3), min_size=SIZE, max_size=SIZE).map(np.float32)
numbers = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
usual = st.lists(numbers, min_size=SIZE, max_size=SIZE).map(np.float32)
curvatures = st.one_of(ties, usual)
permutations = st.permutations(range(SIZE)).map(np.array)


@jax.jit
def mask_of_leaves(leaves, flat_fraction):
  method = METHOD(flat_fraction)
  return method.update(leaves, method.init(leaves), leaves)[1].mask


def mask_of(curvature, flat_fraction):
  mask = mask_of_leaves([curvature[:3], curvature[3:].reshape(5, 1)], np.float32(flat_fraction))
  return np.concatenate([np.ravel(x) for x in mask.flat]), mask


@given(curvatures, permutations, st.integers(0, SIZE))
def test_permuted_coordinates_permute_the_mask(curvature, permutation, rank):
  """Within leaves and across them."""
  flat, _ = mask_of(curvature, rank / SIZE)
  permuted, _ = mask_of(curvature[permutation], rank / SIZE)
  np.testing.assert_array_equal(permuted, flat[permutation])


@given(curvatures, st.integers(0, SIZE))
def test_permuted_leaves_permute_the_mask(curvature, rank):
  leaves, fraction = [curvature[:4], curvature[4:]], np.float32(rank / SIZE)
  mask, swapped = mask_of_leaves(leaves, fraction), mask_of_leaves(leaves[::-1], fraction)
  chex.assert_trees_all_equal(swapped.flat, mask.flat[::-1])


@given(curvatures, st.floats(0, 1, width=32))
@example(np.zeros(SIZE, np.float32), 0.125)
@example(np.float32([1, 1, 2, 2, 2, 3, 3, 3]), 0.375)
@example(np.arange(SIZE, dtype=np.float32), 1.0)
def test_share_is_at_least_the_fraction_and_more_only_by_ties(curvature, fraction):
  flat, mask = mask_of(curvature, fraction)
  rank = int(np.floor(np.float32(SIZE) * np.float32(fraction)))
  assert flat.sum() >= rank
  assert mask.flat_share == flat.mean()
  if rank:
    largest = np.abs(curvature)[flat].max()
    assert mask.threshold == largest
    assert np.sum(np.abs(curvature) < largest) < rank
    assert np.all(np.abs(curvature)[~flat] > largest)
  else:
    assert not flat.any()


@given(curvatures, st.floats(0, 1, width=32), st.integers(-20, 20))
def test_only_the_order_of_magnitudes_counts(curvature, fraction, exponent):
  flat, _ = mask_of(curvature, fraction)
  scaled, _ = mask_of(-curvature * np.float32(2.0**exponent), fraction)
  np.testing.assert_array_equal(scaled, flat)


@given(curvatures, st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_larger_fraction_keeps_what_is_flat(curvature, one, other):
  less, _ = mask_of(curvature, min(one, other))
  more, _ = mask_of(curvature, max(one, other))
  assert np.all(more[less])


@given(curvatures, st.floats(0, 1, width=32))
def test_updates_are_doubled_where_flat(curvature, fraction):
  """With kappa 1."""
  leaves = [jnp.asarray(curvature)]
  output, state = update(leaves, np.float32(fraction))
  chex.assert_trees_all_close(output[0], jnp.where(state.mask.flat[0], 2, 1) * leaves[0])


@jax.jit
def update(leaves, flat_fraction):
  method = METHOD(flat_fraction)
  return method.update(leaves, method.init(leaves), leaves)
