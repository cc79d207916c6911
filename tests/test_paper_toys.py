"""The IRE paper's toy: L = (1 + u^2) v^2 / 2, whose minima v = 0 are flatter for smaller u."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt


def loss_fn(w):
  u, v = w
  return 0.5 * (1 + u**2) * v**2


def run(optimizer, v, num_steps):
  """``u`` before each step and after the last, from u = 1."""
  grad_fn = jax.grad(loss_fn)

  def step(carry, _):
    w, state = carry
    updates, state = optimizer.update(grad_fn(w), state, w, grad_fn=grad_fn)
    return (optax.apply_updates(w, updates), state), w[0]

  w = jnp.stack([jnp.ones_like(v), v])
  (w, _), u = jax.lax.scan(step, (w, optimizer.init(w)), length=num_steps)
  return jnp.append(u, w[0])


def enhanced(kappa):
  return flatopt.ire(kappa=kappa, flat_fraction=0.5, update_interval=1)


def test_gradient_descent_ends_where_the_paper_says(x64):
  descend = lambda kappa: run(optax.chain(optax.sgd(1.0), enhanced(kappa)), jnp.array(0.01), 3000)
  u = jax.jit(jax.vmap(descend))(jnp.array([0.0, 90.0, 900.0, 9000.0]))
  np.testing.assert_allclose(u[:, -1], [0.993, 0.928, 0.743, 0.010], atol=5e-4)


def test_a_larger_learning_rate_diverges(x64):
  assert not np.isfinite(run(optax.sgd(2.0), jnp.array(0.01), 3000)[-1])


@pytest.mark.parametrize(
  ("kappa_of_rho", "slope"),
  [(lambda rho: 0 * rho, 2), (lambda rho: 1 / rho, 1)],
  ids=["sam", "ire"],
)
def test_speed_against_rho(x64, kappa_of_rho, slope):
  """u falls as fast as rho^2 under SAM, as rho with IRE of kappa = 1 / rho besides."""

  def speed(rho):
    optimizer = optax.chain(flatopt.sam(rho), optax.sgd(0.1), enhanced(kappa_of_rho(rho)))
    u = run(optimizer, rho, 200)
    return (u[100] - u[200]) / 100

  rhos = jnp.geomspace(3e-4, 0.01, 6)
  speeds = jax.jit(jax.vmap(speed))(rhos)
  assert np.polyfit(np.log(rhos), np.log(speeds), 1)[0] == pytest.approx(slope, abs=0.1)
