"""JAXopt: ``sharp_loss`` around the function."""

import pytest

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def test_steps(num_steps):
  found = page.run("JAXopt", num_steps=num_steps)
  loss_fn = lambda params, step: found["loss_fn"](params)
  by_hand.check(found["params"], loss_fn, found["start"], num_steps)
