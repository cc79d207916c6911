"""The IRE paper's toy: L = (1 + u^2) v^2 / 2, whose minima v = 0 are flatter for smaller u."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import toys


def test_gradient_descent_ends_where_the_paper_says(x64):
  assert toys.KAPPAS == (0, 90, 900, 9000)
  np.testing.assert_allclose(toys.descents()[:, -1], [0.993, 0.928, 0.743, 0.010], atol=5e-4)


def test_a_larger_learning_rate_diverges(x64):
  assert not np.isfinite(toys.path_of_u(optax.sgd(2.0), jnp.array(0.01), 1000)[-1])


@pytest.mark.parametrize(
  ("kappa_of_rho", "slope"),
  [(lambda rho: 0 * rho, 2), (lambda rho: 1 / rho, 1)],
  ids=["sam", "ire"],
)
def test_speed_against_rho(x64, kappa_of_rho, slope):
  """u falls as fast as rho^2 under SAM, as rho with IRE of kappa = 1 / rho besides."""
  speeds = toys.speeds(kappa_of_rho)
  assert np.polyfit(np.log(toys.RHOS), np.log(speeds), 1)[0] == pytest.approx(slope, abs=0.1)
