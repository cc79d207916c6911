"""Complex params as pairs of real ones."""

import jax.numpy as jnp
import pytest

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def test_steps(num_steps):
  found = page.run("Complex params", num_steps=num_steps)

  def loss_fn(parts, step):
    x, y = found["x"], found["y"]
    return jnp.mean((x @ parts["real"] - y) ** 2 + (x @ parts["imag"]) ** 2)

  start = {"real": jnp.zeros(3), "imag": jnp.ones(3)}
  by_hand.check(found["trained"], loss_fn, start, num_steps)
