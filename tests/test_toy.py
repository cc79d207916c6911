"""IRE with Adam on the paper's toy: the drift along the minima is what must be enhanced.

The loss ``(1 + |u|^2 / n) |v|^2 / 2`` has its minima at v = 0, flatter for smaller u. Noise
in the gradient keeps v off zero, and so sharpness-awareness lowers u.
"""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

import flatopt
from tests import problem

SIZE, NOISE, NUM_STEPS, RHO = 20, 0.01, 3000, 0.1
ENHANCEMENT = {"kappa": 5.0, "flat_fraction": 0.5}


def loss_fn(params):
  return 0.5 * (1 + jnp.sum(params["u"] ** 2) / SIZE) * jnp.sum(params["v"] ** 2)


OPTIMIZERS = {
  "sam": lambda: optax.chain(flatopt.sam(RHO), optax.adam(1e-3)),
  "scaled gradient": lambda: optax.chain(
    flatopt.sam(RHO),
    optax.stateless(lambda g, _: {"u": (1 + ENHANCEMENT["kappa"]) * g["u"], "v": g["v"]}),
    optax.adam(1e-3),
  ),
  "ire": lambda: optax.chain(flatopt.sam(RHO), optax.adam(1e-3), flatopt.ire(**ENHANCEMENT)),
  "ire_rho": lambda: optax.chain(flatopt.ire(rho=RHO, **ENHANCEMENT), optax.adam(1e-3)),
}


@functools.cache
@jax.numpy_dtype_promotion("standard")  # Adam itself promotes
def fall_of_mean_square(name, seed):
  """How far mean u^2 falls from 1 within ``NUM_STEPS``."""

  def end(optimizer):
    params = {"u": jnp.ones(SIZE), "v": jnp.zeros(SIZE)}

    def step(carry, t):
      params, state = carry
      key = jax.random.fold_in(jax.random.key(seed), t)
      noise = optax.tree.random_like(key, params, jax.random.normal)
      grad_fn = lambda p: optax.tree.add_scale(jax.grad(loss_fn)(p), NOISE, noise)
      updates, state = optimizer.update(grad_fn(params), state, params, grad_fn=grad_fn)
      return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(NUM_STEPS)))
    (params, _), _ = run((params, optimizer.init(params)))
    return float(jnp.mean(params["u"] ** 2))

  return 1 - end(OPTIMIZERS[name]())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["ire", "ire_rho"])
def test_ire_lowers_u_at_least_half_as_far_again_as_sam(name, seed):
  assert fall_of_mean_square(name, seed) >= 1.5 * fall_of_mean_square("sam", seed) > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_scaling_the_gradient_does_nothing(seed):
  scaled, sam = (fall_of_mean_square(name, seed) for name in ("scaled gradient", "sam"))
  assert scaled == pytest.approx(sam, rel=1e-3)


@jax.numpy_dtype_promotion("standard")
def test_ire_before_adamw_trains_and_is_not_sam():
  batch = problem.make_batch(size=64)
  ends = []
  for method in (flatopt.ire(rho=0.05), flatopt.sam(rho=0.05)):
    optimizer = optax.chain(method, optax.adamw(1e-3))
    step = problem.make_step(optimizer)
    params = problem.make_params()
    run = jax.jit(
      lambda carry, step=step: jax.lax.scan(
        lambda c, _: (step(*c, batch), None), carry, length=1000
      )
    )
    (params, _), _ = run((params, optimizer.init(params)))
    assert problem.loss_fn(params, batch) < 0.7 * problem.loss_fn(problem.make_params(), batch)
    ends.append(params)
  difference, size = optax.tree.norm(optax.tree.sub(*ends)), optax.tree.norm(ends[0])
  assert difference > 0.01 * size
