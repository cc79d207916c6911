"""The oracle's methods that make a gradient, and IRE, which also changes updates."""

import numpy as np

from tests.sequences.oracle import Inside, Part, adaptive, ascend, finite, norm, uniform_draws


class Sam(Part):
  def __init__(self, rho, ascent=None, eta=None, of_leaves=None):
    self.rho, self.ascent, self.eta, self.of_leaves = rho, ascent, eta, of_leaves

  def call(self, g, w, env, now):
    if not finite(g):
      env.spent["gradients"] += 1
      return np.full_like(g, np.nan)
    direction = g if self.ascent is None else self.ascent.update(g, w, env)
    if self.of_leaves is not None:
      direction = np.where(env.leaves == self.of_leaves, direction, 0.0)
    return env.grad_fn(ascend(w, direction, self.rho(now), adaptive(w, self.eta, env, now)))


class Rst(Part):
  def __init__(self, inner, probability, key, mixing=None, degree=None):
    self.inner, self.probability, self.key = inner, probability, key
    self.mixing, self.degree = mixing, degree

  def call(self, g, w, env, now):
    p = self.probability(now)
    if uniform_draws(self.key)[self.t] >= np.float32(p):
      return g
    m = self.mixing(now) if self.degree is None else self.degree(now) / p
    sharp = self.inner.update(g, w, Inside(env, step=now))
    return sharp if m == 1 else g if m == 0 else (1 - m) * g + m * sharp


class AeSam(Part):
  mean = variance = 0.0

  def __init__(self, inner, num_steps, low, high, decay):
    self.inner, self.num_steps, self.decay = inner, num_steps, decay
    self.low, self.high = low, high

  def call(self, g, w, env, now):
    square, d = norm(g) ** 2, self.decay
    mean = d * self.mean + (1 - d) * square
    variance = d * self.variance + (1 - d) * (square - mean) ** 2
    if finite(variance):
      self.mean, self.variance = mean, variance
    progress = min(now / self.num_steps, 1)
    c = (1 - progress) * self.high(now) + progress * self.low(now)
    threshold = self.mean + c * np.sqrt(self.variance)
    if not finite(square) or env.is_less(square, threshold):
      return g
    return self.inner.update(g, w, Inside(env, step=now))


class Gsam(Part):
  def __init__(self, rho, alpha):
    self.rho, self.alpha = rho, alpha

  def call(self, g, w, env, now):
    sharp = env.grad_fn(ascend(w, g, self.rho(now)))
    square = sharp @ sharp
    if not finite(g) or not finite(square):
      return sharp if finite(g) else np.full_like(g, np.nan)
    along = (g @ sharp) / square * sharp if square else 0.0
    return sharp - self.alpha(now) * (g - along)


class Looksam(Part):
  v = 0.0

  def __init__(self, rho, alpha, update_interval):
    self.rho, self.alpha, self.update_interval = rho, alpha, update_interval

  def call(self, g, w, env, now):
    if self.t % self.update_interval:
      return g + self.alpha(now) * norm(g) * self.v if finite(g) else g
    sharp = env.grad_fn(ascend(w, g, self.rho(now)))
    if finite(g) and finite(sharp):
      square = g @ g
      orthogonal = sharp - (g @ sharp / square if square else 0.0) * g
      env.check_direction(orthogonal, sharp)
      self.v = orthogonal / norm(orthogonal) if norm(orthogonal) > 1e-15 * norm(sharp) else 0.0
    return sharp


class FriendlySam(Part):
  m = 0.0

  def __init__(self, rho, sigma, decay):
    self.rho, self.sigma, self.decay = rho, sigma, decay

  def call(self, g, w, env, now):
    direction = g - self.sigma(now) * self.m
    if finite(g):
      env.check_direction(direction, g)
      d = self.decay if self.t else 0.0
      self.m = d * self.m + (1 - d) * g
    sharp = env.grad_fn(ascend(w, direction, self.rho(now)))
    return sharp if finite(direction) else np.full_like(g, np.nan)


def fisher(w, env, t):
  return env.grad_fn(w) ** 2


def bartlett(noise, batch_size):
  def estimate(w, env, t):
    env.spent["gradients"] += 1
    return batch_size * (env.gradient(w) + noise[t][-len(w) :]) ** 2

  return estimate


def hutchinson(signs):
  def estimate(w, env, t):
    env.spent["gradients"] += 2 * len(signs[t])  # a product costs two gradients
    env.spent["products"] += len(signs[t])
    return np.mean([v * env.slope(w, v) for v in signs[t]], axis=0)

  return estimate


class Ire(Part):
  h, estimates = None, 0

  def __init__(self, kappa, flat_fraction, estimate, update_interval, start_step, decay, rho=None):
    self.kappa, self.flat_fraction, self.estimate = kappa, flat_fraction, estimate
    self.interval, self.start, self.decay, self.rho = update_interval, start_step, decay, rho
    self.flat = False

  def call(self, g, w, env, now):
    if self.t >= self.start and (self.t - self.start) % self.interval == 0:
      self.flat = self.mask(w, env, now)
    if self.rho is None:
      return np.where(self.flat, (1 + self.kappa(now)) * g, g)
    sharp = env.grad_fn(ascend(w, g, self.rho(now)))
    if not finite(g):
      return np.full_like(g, np.nan)
    return np.where(self.flat, sharp + self.kappa(now) * (sharp - g), sharp)

  def mask(self, w, env, now):
    new = np.abs(self.estimate(w, env, self.estimates))
    self.estimates += 1
    if self.decay:
      old = np.zeros_like(w) if self.h is None else self.h
      new = np.where(np.isfinite(new), self.decay * old + (1 - self.decay) * new, old)
    self.h = np.where(np.isfinite(new), new, np.inf)
    k = int(np.float32(len(w)) * np.float32(self.flat_fraction(now)))
    if k == 0:
      return np.zeros(len(w), bool)
    threshold = np.sort(self.h)[k - 1]
    others = self.h[self.h != threshold]
    env.is_less(others[np.isfinite(others)], threshold)  # raises where it is too close
    return (self.h <= threshold) & np.isfinite(self.h)
