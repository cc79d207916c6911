"""SAM with momentum-free SGD inside Lookahead, written out."""

import jax
import jax.numpy as jnp

RHO, LEARNING_RATE, SYNC_PERIOD, SLOW_STEP_SIZE = 0.05, 0.1, 2, 0.5


def steps(loss_fn, params, num_steps, *, rho=RHO, sync_period=SYNC_PERIOD, finish=False):
  """Returns the params after ``num_steps`` of ``loss_fn(params, step)``, or the slow weights."""
  grad_fn, slow = jax.jit(jax.grad(loss_fn)), params
  for step in range(num_steps):
    grads = grad_fn(params, step)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
    worst = jax.tree.map(lambda w, g, norm=norm: w + rho * g / norm, params, grads)
    sharp = grad_fn(worst, step)
    params = jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, sharp)
    if (step + 1) % sync_period == 0:
      slow = jax.tree.map(lambda s, w: s + SLOW_STEP_SIZE * (w - s), slow, params)
      params = slow
  return slow if finish else params


def check(params, loss_fn, start, num_steps, **settings):
  """``params`` are what SAM makes of ``start``, and clearly not what the base alone makes of it."""
  expected = jax.tree.leaves(steps(loss_fn, start, num_steps, **settings))
  plain = jax.tree.leaves(steps(loss_fn, start, num_steps, **settings, rho=0.0))
  actual = jax.tree.leaves(params)
  tolerance = 1e-10 if actual[0].dtype == jnp.float64 else 1e-5
  distance = lambda a, b: max(float(jnp.max(jnp.abs(x - y))) for x, y in zip(a, b, strict=True))
  assert distance(actual, expected) < tolerance
  assert distance(plain, expected) > 10 * tolerance
