"""What holds for schedules and their cost."""

import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

import flatopt
from flatopt.schedules import rising_cosine


@given(st.integers(1, 10**6), st.just(0.0) | st.floats(2**-100, 1e3, width=32))
@example(1, 1.0)
def test_rising_cosine_rises_within_its_bounds(num_steps, peak):
  counts = jnp.linspace(0, 1.5 * num_steps, 64).astype(jnp.int32)
  values = np.asarray(rising_cosine(num_steps, peak)(counts))
  assert np.all((values >= 0) & (values <= peak))
  assert np.all(np.diff(values) >= 0)
  assert values[0] == 0
  np.testing.assert_allclose(values[-1], peak, rtol=1e-6)


@given(st.floats(0, 1), st.integers(0, 10**9))
@example(0.0, 3)
@example(1.0, 3)
def test_cost_is_one_to_two_gradients_a_step(probability, num_steps):
  cost = flatopt.expected_gradient_evaluations(probability, num_steps)
  assert num_steps <= cost <= 2 * num_steps
  np.testing.assert_allclose(cost, num_steps * (1 + probability), rtol=1e-12)


@given(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), st.integers(0, 4))
def test_cost_of_a_schedule_is_the_sum_over_its_steps(values, num_steps):
  schedule = lambda count: jnp.asarray(values, jnp.float32)[count]
  cost = flatopt.expected_gradient_evaluations(schedule, num_steps)
  np.testing.assert_allclose(cost, num_steps + sum(values[:num_steps]), rtol=1e-6)
