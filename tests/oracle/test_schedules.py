"""Schedules, and what a schedule of probabilities costs."""

import jax.numpy as jnp
import numpy as np
import pytest

from flatopt import expected_gradient_evaluations
from flatopt.schedules import every, from_step, rising_cosine
from tests.oracle.trajectory import table


@pytest.mark.parametrize("peak", [1.0, 0.3, -2])
def test_rising_cosine(peak):
  counts = np.arange(-2, 15)
  values = [rising_cosine(10, peak)(t) for t in counts]
  expected = peak * (1 - np.cos(np.pi * np.clip(counts, 0, 10) / 10)) / 2
  np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize("start", [0, 1, 5, 9])
def test_from_step(start):
  values = [from_step(start)(t) for t in range(8)]
  assert values == [0] * min(start, 8) + [1] * (8 - min(start, 8))
  assert from_step(start)(jnp.arange(8)).tolist() == values
  assert expected_gradient_evaluations(from_step(start), 8) == 8 + sum(values)


@pytest.mark.parametrize("interval", [1, 2, 3, 20])
def test_every(interval):
  values = [every(interval)(t) for t in range(8)]
  assert values == [int(t % interval == 0) for t in range(8)]
  assert every(interval)(jnp.arange(8)).tolist() == values
  assert expected_gradient_evaluations(every(interval), 8) == 8 + sum(values)


@pytest.mark.parametrize(
  ("probability", "expected"),
  [
    (0, 4),
    (0.25, 5),
    (1, 8),
    (np.float32(0.5), 6),
    (np.array(0.5), 6),
    (jnp.array(0.5), 6),
    (table([0.1, 0.2, 0.0, 1.0]), 5.3),
    (lambda t: 0.5, 6),
    (lambda t: 1, 8),
  ],
)
def test_expected_gradient_evaluations(probability, expected):
  result = expected_gradient_evaluations(probability, 4)
  assert isinstance(result, float)
  assert result == pytest.approx(expected)


def test_no_steps_cost_nothing():
  assert expected_gradient_evaluations(0.5, 0) == 0
  assert expected_gradient_evaluations(rising_cosine(3), 0) == 0


def test_many_steps_are_summed_exactly():
  """2^24 + 7 is no float32 number."""
  result = expected_gradient_evaluations(lambda t: 1.0, 2**24 + 7)
  assert result == 2**25 + 14
