"""Short runs on losses of two coordinates, with every place that a method looks at written down."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt


class Run(NamedTuple):
  """Of every step: the params before it, the points looked at, and the params to evaluate at."""

  path: np.ndarray  # (steps + 1, 2)
  looks: list[np.ndarray]  # of each step (points, 2)
  slow: np.ndarray  # (steps + 1, 2)


def run(
  optimizer: optax.GradientTransformation,
  loss_fn: Callable[[jax.Array], jax.Array],
  start: tuple[float, float],
  num_steps: int,
  *,
  noise: float = 0.0,
  seed: int = 0,
) -> Run:
  """Steps from ``start``; each step's gradients share one draw of noise, as they share a batch."""
  gradient = jax.jit(jax.grad(loss_fn))
  update = optax.with_extra_args_support(optimizer).update
  draws = np.random.default_rng(seed).normal(scale=noise, size=(num_steps, 2)).astype(np.float32)
  params = jnp.array(start)
  state = optimizer.init(params)
  path, looks, slow = [params], [], [flatopt.eval_params(state, params)]
  for draw in draws:
    # A scan's or a cond's closure is traced: the points are what its gradients are handed.
    seen = []

    def grad_fn(w, draw=draw, seen=seen):
      jax.debug.callback(lambda point: seen.append(np.asarray(point)), w, ordered=True)
      return gradient(w) + draw

    updates, state = update(gradient(params) + draw, state, params, grad_fn=grad_fn)
    params = optax.apply_updates(params, updates)
    jax.effects_barrier()
    path.append(params)
    looks.append(np.reshape(seen, (-1, 2)))
    slow.append(flatopt.eval_params(state, params))
  return Run(np.stack(path), looks, np.stack(slow))


def two_minima(w: jax.Array) -> jax.Array:
  """A narrow minimum near (-1, 0), which stands in the way to a wide one near (1.2, 0)."""
  x, y = w
  bowl = 0.15 * (x - 1.2) ** 2 + 0.25 * y**2
  hole = jnp.exp(-((x + 1) ** 2 + y**2) / (2 * 0.2**2))
  return bowl - 0.3 * hole


def valley(w: jax.Array) -> jax.Array:
  """Minimal wherever v = 0, and the flatter the smaller u is: the toy of IRE's paper."""
  u, v = w
  return (1 + u**2) * v**2 / 2


def bowl(w: jax.Array) -> jax.Array:
  """One minimum, six times as steep along one axis as along the other."""
  x, y = w
  return 0.5 * (0.25 * x**2 + 1.5 * y**2)


def two_layers(w: jax.Array) -> jax.Array:
  """A network of two linear layers: every (a, b) with a * b = 1 is a minimum."""
  a, b = w
  return 0.5 * (a * b - 1) ** 2
