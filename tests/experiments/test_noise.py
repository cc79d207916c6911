"""Noise on weights against what a linear model says it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from experiments.noise import accuracy_under_noise, additive, multiplicative

INPUT = np.array([1.0, -2.0, 0.5], np.float32)
PARAMS = {"first": jnp.array([0.4, -0.3]), "second": jnp.array([0.8])}
WEIGHTS = np.array([0.4, -0.3, 0.8], np.float32)
MARGIN = float(WEIGHTS @ INPUT)
STRENGTHS = [0.0, 0.5, 2.0]
# By strength 1, how far the margin strays.
DEVIATION = {additive: np.linalg.norm(INPUT), multiplicative: np.linalg.norm(WEIGHTS * INPUT)}
DRAWS = 4000


def margin_fn(params):
  return jnp.concatenate([params["first"], params["second"]]) @ jnp.asarray(INPUT)


def curve(measure_fn, apply_noise, **options):
  settings = {"num_draws": DRAWS, "key": jax.random.key(0)} | options
  return accuracy_under_noise(measure_fn, PARAMS, apply_noise, STRENGTHS, **settings)


@pytest.mark.parametrize("apply_noise", [additive, multiplicative])
def test_accuracy_is_the_normal_probability_of_the_margin(apply_noise):
  mean_S = curve(lambda p: margin_fn(p) > 0, apply_noise).mean_S
  assert mean_S[0] == 1
  for mean, strength in zip(mean_S[1:], STRENGTHS[1:], strict=True):
    expected = norm.cdf(MARGIN / (strength * DEVIATION[apply_noise]))
    assert mean == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / DRAWS))


@pytest.mark.parametrize("apply_noise", [additive, multiplicative])
def test_band_holds_eighty_percent(apply_noise):
  mean_S, low_S, high_S = curve(margin_fn, apply_noise)
  for mean, low, high, strength in zip(mean_S, low_S, high_S, STRENGTHS, strict=True):
    deviation = strength * DEVIATION[apply_noise]
    assert mean == pytest.approx(MARGIN, abs=1e-5 + 4 * deviation / np.sqrt(DRAWS))
    for bound, share in ((low, 0.1), (high, 0.9)):
      expected = MARGIN + deviation * norm.ppf(share)
      # The standard error of a normal's 10th percentile is 1.71 deviations / sqrt(n).
      assert bound == pytest.approx(expected, abs=1e-5 + 4 * 1.71 * deviation / np.sqrt(DRAWS))


def test_draws_are_the_key_s_and_the_same_at_every_strength():
  one, again, other = (
    curve(margin_fn, additive, num_draws=3, key=jax.random.key(seed)) for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, again)
  assert not np.allclose(one.mean_S[1:], other.mean_S[1:])
  shift = one.mean_S - MARGIN
  np.testing.assert_allclose(shift[2] / shift[1], STRENGTHS[2] / STRENGTHS[1], rtol=1e-4)


def test_params_keep_their_dtype():
  params = {"w": jnp.ones(3, jnp.bfloat16)}
  accuracy_fn = lambda p: jnp.float32(p["w"].dtype == jnp.bfloat16)
  result = accuracy_under_noise(
    accuracy_fn, params, additive, [0.1], num_draws=2, key=jax.random.key(0)
  )
  assert result.mean_S[0] == 1
