"""Penzai: ``sharp_loss`` inside the loss of its trainer."""

import pytest
from penzai import pz

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def test_steps(num_steps):
  found = page.run("Penzai", num_steps=num_steps)
  fresh = found["MLP"].from_config(
    found["jax"].random.key(0), [3, 4, 1], activation_fn=found["jnp"].tanh
  )
  model, start = pz.unbind_params(fresh, freeze=True)

  def loss_fn(params, step):
    prediction = pz.bind_variables(model, params)(pz.nx.wrap(found["x"], "batch", "features"))
    prediction = prediction.unwrap("batch", "features")[:, 0]
    return ((prediction - found["y"]) ** 2).mean()

  _, params = pz.unbind_params(found["mlp"], freeze=True)
  by_hand.check(params, loss_fn, start, num_steps)
