"""FlowJAX: ``sharp_loss`` around a loss that gets what is not a param as an argument."""

import equinox as eqx
import jax
import pytest
from flowjax.train.train_utils import train_val_split

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def test_steps(num_steps):
  found = page.run("FlowJAX", num_steps=num_steps)
  _, key = jax.random.split(jax.random.key(0))
  (trained_on,), _ = train_val_split(key, [found["x"]], val_prop=0.1)
  start, static = eqx.partition(found["flow"], eqx.is_inexact_array)

  def loss_fn(params, step):
    return -eqx.combine(params, static).log_prob(trained_on).mean()

  params = eqx.filter(found["fitted_flow"], eqx.is_inexact_array)
  by_hand.check(params, loss_fn, start, num_steps)
  assert abs(found["losses"]["train"][0] - loss_fn(start, 0)) < 1e-10  # the clean loss
