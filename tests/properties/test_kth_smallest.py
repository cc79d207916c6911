"""kth_smallest is sorted(...)[k - 1], NaN last."""

import jax
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

import flatopt

SIZE = 8
special = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 3.4e38])
usual = st.floats(width=32)
ties = st.integers(-2, 2).map(float)
entries = st.lists(st.one_of(special, usual, ties), min_size=SIZE, max_size=SIZE).map(np.float32)


@jax.jit
def select(values, k):
  return flatopt.kth_smallest({"a": values[:1].reshape(()), "b": values[1:7], "c": values[7:]}, k)


@given(entries, st.integers(1, SIZE))
@example(np.float32([np.nan] * SIZE), 1)
@example(np.float32([-np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, -1e-45, np.nan]), 7)
@example(np.float32([-np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, -1e-45, np.nan]), 6)
@example(np.float32([-np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, -1e-45, np.nan]), 1)
@example(np.float32([5, 4, 4, 4, 3, 2, 1, 0]), 5)
def test_is_the_kth_of_the_sorted_entries(values, k):
  np.testing.assert_array_equal(select(values, k), np.sort(values)[k - 1])
