"""Haiku: its params are dicts, and the loop is the user's."""

import jax.numpy as jnp
import pytest

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def test_steps(num_steps):
  found = page.run("Haiku", num_steps=num_steps)

  def loss_fn(params, step):
    first, second = params["mlp/~/linear_0"], params["mlp/~/linear_1"]
    hidden = jnp.tanh(found["x"] @ first["w"] + first["b"])
    return jnp.mean(((hidden @ second["w"] + second["b"])[:, 0] - found["y"]) ** 2)

  by_hand.check(found["trained"], loss_fn, found["initial"], num_steps)
