"""GPJax: ``sharp_loss`` around the objective, and ``finish``, because the state is dropped."""

import equinox as eqx
import pytest

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


@pytest.mark.parametrize("num_steps", [3, 10])
def test_steps(num_steps):
  found = page.run("GPJax", num_steps=num_steps)
  start, static = eqx.partition(found["posterior"], eqx.is_inexact_array)

  def loss_fn(params, step):
    return found["objective"](eqx.combine(params, static), found["data"])

  params = eqx.filter(found["fitted"], eqx.is_inexact_array)
  by_hand.check(params, loss_fn, start, num_steps, finish=True)
  assert abs(found["losses"][0] - loss_fn(start, 0)) < 1e-10  # the clean loss
