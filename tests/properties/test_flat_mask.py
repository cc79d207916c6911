"""What holds for IRE's mask, whatever the curvature."""

import jax
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


@jax.jit
def update(leaves, flat_fraction):
  method = METHOD(flat_fraction)
  output, state = method.update(leaves, method.init(leaves), leaves)
  return output, state.mask


@given(curvatures, st.floats(0, 1, width=32))
@example(np.zeros(SIZE, np.float32), 0.125)
@example(np.float32([1, 1, 2, 2, 2, 3, 3, 3]), 0.375)
@example(np.arange(SIZE, dtype=np.float32), 1.0)
def test_the_flattest_are_flat_and_more_only_by_ties(curvature, fraction):
  """With kappa 1, the updates are doubled there."""
  leaves = [curvature[:3], curvature[3:].reshape(5, 1)]
  output, mask = update(leaves, np.float32(fraction))
  flat, output = (np.concatenate([np.ravel(x) for x in tree]) for tree in (mask.flat, output))
  rank = int(np.floor(np.float32(SIZE) * np.float32(fraction)))
  assert flat.sum() >= rank
  assert mask.flat_share == flat.mean()
  np.testing.assert_array_equal(output, np.where(flat, 2, 1) * curvature)
  if rank:
    largest = np.abs(curvature)[flat].max()
    assert mask.threshold == largest
    assert np.sum(np.abs(curvature) < largest) < rank
    assert np.all(np.abs(curvature)[~flat] > largest)
  else:
    assert not flat.any()
