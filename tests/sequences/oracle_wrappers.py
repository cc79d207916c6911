"""The oracle's wrappers."""

import functools

import numpy as np

from tests.sequences.oracle import Inside, Part, adaptive, ascend, evaluated, finite, norm


class Lookahead(Part):
  slow, m = None, 0.0

  def __init__(self, base, sync_period, slow_step_size, slow_momentum):
    self.base, self.sync_period = base, sync_period
    self.alpha, self.mu = slow_step_size, slow_momentum

  def call(self, g, w, env, now):
    slow = w if self.t == 0 else self.slow
    fast = w + self.base.update(g, w, env)
    if (self.t + 1) % self.sync_period == 0:
      self.m = self.mu(now) * self.m + (fast - slow)
      fast = slow = slow + self.alpha(now) * ((fast - slow) + self.mu(now) * self.m)
    self.slow = slow
    return fast - w

  def evaluated(self, w):
    return w if self.slow is None else self.slow


class Sala(Part):
  slow, stage = None, 1

  def __init__(self, base, sync_period, slow_step_size, rho):
    self.base, self.sync_period, self.alpha, self.rho = base, sync_period, slow_step_size, rho

  def call(self, g, w, env, now):
    slow, start, place = w if self.t == 0 else self.slow, w, (self.t + 1) % self.sync_period
    if place == 0:
      start = slow
      if self.stage == 2:
        sharp = env.grad_fn(ascend(w, g, self.rho(now)))
        g = sharp if finite(g) else np.full_like(g, np.nan)
    fast = start + self.base.update(g, start, env)
    if place == self.sync_period - 1:
      distance = (1 - self.alpha(now)) * norm(fast - slow)
      slow = slow + self.alpha(now) * (fast - slow)
      self.stage = 2 if finite(distance) and env.is_less(distance, self.rho(now)) else 1
      fast = slow if self.stage == 2 else fast
    self.slow = slow
    return fast - w

  evaluated = Lookahead.evaluated


class Lookbehind(Part):
  def __init__(self, base, ascent_steps, rho, interpolation=None, eta=None):
    self.base, self.ascent_steps, self.rho = base, ascent_steps, rho
    self.interpolation, self.eta = interpolation, eta

  def call(self, g, w, env, now):
    p, fasts = w, [w]
    for _ in range(self.ascent_steps):
      is_finite = finite(g)
      p = ascend(p, g, self.rho(now), adaptive(p, self.eta, env, now))
      g = env.grad_fn(p)
      descent = g if is_finite else np.full_like(g, np.nan)
      fasts.append(fasts[-1] + self.base.update(descent, fasts[-1], env))
    first, last = fasts[1] - w, fasts[-1] - w
    if self.interpolation is not None:
      return self.interpolation(now) * last
    alpha = np.empty_like(w)
    for leaf in {*env.leaves}:
      a, b = first[env.leaves == leaf], last[env.leaves == leaf]
      lengths = norm(a) * norm(b)
      alpha[env.leaves == leaf] = ((a @ b / lengths if lengths else 0.0) + 1) / 2
    return alpha * last


class MomentumSam(Part):
  eps = 0.0

  def __init__(self, base, rho):
    self.base, self.rho = base, rho

  def call(self, g, w, env, now):
    u = self.base.update(g, w, env)
    if norm(u) > 1e-60:  # as an update of lookbehind, it may be a difference of params
      env.check_direction(u, w)
    moved = w - self.eps + u
    self.eps = ascend(moved, u, self.rho(now)) - moved
    return moved + self.eps - w

  def evaluated(self, w):
    return w - self.eps


class WeightAverage(Part):
  taken = None

  def __init__(self, base, decay, start_step, update_interval):
    self.base, self.decay, self.start, self.interval = base, decay, start_step, update_interval

  def call(self, g, w, env, now):
    if self.taken is None:
      self.taken = [w] if self.start == 0 else []
    u = self.base.update(g, w, env)
    after = self.t + 1
    if after >= self.start and (after - self.start) % self.interval == 0:
      self.taken = [*self.taken, evaluated(self.base, w + u)]
    return u

  def evaluated(self, w):
    if not self.taken:
      return evaluated(self.base, w)
    if self.decay is None:
      return np.mean(self.taken, axis=0)
    return functools.reduce(lambda a, w: self.decay * a + (1 - self.decay) * w, self.taken)


class Finish(Part):
  def __init__(self, inner, num_steps):
    self.inner, self.num_steps = inner, num_steps

  def call(self, g, w, env, now):
    u = self.inner.update(g, w, env)
    return evaluated(self.inner, w + u) - w if self.t + 1 == self.num_steps else u

  def evaluated(self, w):
    return w if self.t == self.num_steps else evaluated(self.inner, w)


class Trainable(Part):
  def __init__(self, inner, on):
    self.inner, self.on = inner, on

  def call(self, g, w, env, now):
    on = self.on

    def whole(part):
      full = np.array(w)
      full[on] = part
      return full

    def slope(part, v):
      direction = np.zeros_like(w)
      direction[on] = v
      return env.slope(whole(part), direction)[on]

    def grad_fn(part):
      return env.grad_fn(whole(part))[on]

    gradient = lambda part: env.gradient(whole(part))[on]
    inside = Inside(env, grad_fn=grad_fn, gradient=gradient, slope=slope, leaves=env.leaves[on])
    output = np.zeros_like(w)
    output[on] = self.inner.update(g[on], w[on], inside)
    return output

  def evaluated(self, w):
    full = np.array(w)
    full[self.on] = evaluated(self.inner, w[self.on])
    return full
