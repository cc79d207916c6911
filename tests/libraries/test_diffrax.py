"""Diffrax: the default adjoint trains, and DirectAdjoint alone measures."""

import diffrax
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def test_steps(num_steps):
  found = page.run("Diffrax", num_steps=num_steps)

  def loss_fn(params, step):
    """Two steps of Heun's method."""
    slope = lambda z: jnp.tanh(z * params["kernel"] + params["bias"])
    z = found["x"]
    for _ in range(2):
      z = z + 0.25 * (slope(z) + slope(z + 0.5 * slope(z)))
    return jnp.mean((jnp.sum(z, axis=1) - found["y"]) ** 2)

  by_hand.check(found["trained"], loss_fn, found["start"], num_steps)


def test_only_the_direct_adjoint_measures():
  found = page.run("Diffrax", num_steps=0)
  vector, unravel = ravel_pytree(found["start"])
  loss_fn = lambda vector: found["end_loss_fn"](unravel(vector), diffrax.DirectAdjoint())
  largest = jnp.linalg.eigvalsh(jax.hessian(loss_fn)(vector))[-1]
  measured = found["top_curvature"](found["start"], diffrax.DirectAdjoint())
  assert abs(measured - largest) < 1e-8
  with pytest.raises(TypeError, match="custom_vjp"):
    found["top_curvature"](found["start"], diffrax.RecursiveCheckpointAdjoint())
