"""BlackJAX: the closure bound to the optimizer of one step."""

import jax
import jax.numpy as jnp
import pytest

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def test_steps(num_steps):
  found = page.run("BlackJAX", num_steps=num_steps)
  vi, state = found["meanfield_vi"], found["state"]

  def loss_fn(params, step):
    """The Kullback-Leibler divergence at the samples of this step."""
    samples = vi.sample(found["keys"][step], vi.MFVIState(*params, None), 5)
    log_q = vi.generate_meanfield_logdensity(*jax.lax.stop_gradient(params))
    return jnp.mean(jax.vmap(log_q)(samples) - jax.vmap(found["log_density"])(samples))

  start = (jnp.zeros(3), jnp.full(3, -2.0))
  by_hand.check((state.mu, state.rho), loss_fn, start, num_steps)
