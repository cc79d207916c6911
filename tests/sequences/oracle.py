"""Every method a second time: NumPy float64, a vector in place of a tree, loops in place of traces.

A part has ``update(g, w, env) -> update``, like an optax transformation, and keeps its state in its
fields; ``env`` has what differs from step to step. ``evaluated(w)`` is ``eval_params``.
"""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np

NUM_STEPS = 96  # length of the tables of hyper-parameters and of draws


class Unclear(Exception):
  """Rounding decides which branch is taken, so the oracle cannot tell."""


class Env:
  """One batch: its gradient, what the step number is, and the closure calls so far."""

  def __init__(self, gradient, slope, leaves, tolerance, step=None):
    self.gradient, self.slope, self.leaves = gradient, slope, leaves
    self.tolerance, self.step = tolerance, step
    self.rounding = 1e-5 if tolerance < 1e-6 else 3e-2
    self.spent = collections.Counter()  # gradients, and how many of them by twos in products

  def grad_fn(self, w):
    self.spent["gradients"] += 1
    return self.gradient(w)

  def check_direction(self, x, of):
    """What remains of a difference may be rounding, whose direction nobody knows."""
    if 1e-15 * norm(of) < norm(x) < self.rounding * norm(of):
      raise Unclear

  def is_less(self, a, b):
    """a < b, for scalars or arrays; equal only where both are exactly so."""
    close = np.abs(a - b) <= 10 * self.tolerance * (np.abs(a) + np.abs(b))
    if np.any(close & (a != b)):
      raise Unclear
    return a < b


class Inside:
  """An env with some fields replaced, for the inside of a method."""

  def __init__(self, env, **fields):
    self.__dict__.update(fields)
    self._env = env

  def __getattr__(self, name):
    return getattr(self._env, name)


def norm(x):
  largest = np.max(np.abs(x), initial=0.0)
  if largest == 0 or not np.isfinite(largest):
    return largest
  return largest * np.sqrt(np.sum((x / largest) ** 2))


def finite(x):
  return bool(np.isfinite(x).all())


def ascend(w, direction, rho, scale=1.0):
  """w + rho T^2 g / ||T g||, NaN where the direction is not finite."""
  if not finite(direction):
    return np.full_like(w, np.nan)
  length = norm(scale * direction)
  return w + rho * scale * (scale * direction / length) if length else w


def adaptive(w, eta, env, now):
  """ASAM's T, or SAM's."""
  return 1.0 if eta is None else np.where(env.leaves == "kernel", np.abs(w) + eta(now), 1.0)


class Part:
  """Does nothing. ``t`` counts its calls."""

  t = 0

  def update(self, g, w, env):
    now = self.t if env.step is None else env.step
    with np.errstate(all="ignore"):
      output = self.call(g, w, env, now)
    self.t += 1
    return output

  def call(self, g, w, env, now):
    return g

  def evaluated(self, w):
    return None


class Chain(Part):
  def __init__(self, *parts):
    self.parts = parts

  def call(self, g, w, env, now):
    return functools.reduce(lambda g, part: part.update(g, w, env), self.parts, g)

  def evaluated(self, w):
    found = (part.evaluated(w) for part in self.parts)
    return next((x for x in found if x is not None), None)


def evaluated(part, w):
  found = part.evaluated(w)
  return w if found is None else found


class Sgd(Part):
  trace = 0.0

  def __init__(self, learning_rate, momentum=0.0, nesterov=False):
    self.learning_rate, self.momentum, self.nesterov = learning_rate, momentum, nesterov

  def call(self, g, w, env, now):
    self.trace = g + self.momentum * self.trace
    return -self.learning_rate * (g + self.momentum * self.trace if self.nesterov else self.trace)


class Adam(Part):
  mu = nu = 0.0

  def __init__(self, learning_rate):
    self.learning_rate = learning_rate

  def call(self, g, w, env, now):
    self.mu, self.nu = 0.9 * self.mu + 0.1 * g, 0.999 * self.nu + 0.001 * g**2
    mu, nu = self.mu / (1 - 0.9 ** (self.t + 1)), self.nu / (1 - 0.999 ** (self.t + 1))
    return -self.learning_rate * mu / (np.sqrt(nu) + 1e-8)


class Decay(Part):
  def call(self, g, w, env, now):
    return g + 0.1 * w


class Clip(Part):
  def call(self, g, w, env, now):
    return g if norm(g) < 1 else g / norm(g)


class SkipNonFinite(Part):
  def __init__(self, inner):
    self.inner = inner

  def call(self, g, w, env, now):
    return self.inner.update(g, w, env) if finite(g) else np.zeros_like(w)


@functools.cache
def keys(key):
  """The keys of all draws of a method: draw t uses fold_in(key, t)."""
  root = jax.random.key(key, impl="threefry2x32")
  return jax.vmap(lambda t: jax.random.fold_in(root, t))(jnp.arange(NUM_STEPS))


@functools.cache
def uniform_draws(key):
  return np.asarray(jax.vmap(lambda k: jax.random.uniform(k, dtype=jnp.float32))(keys(key)))
