"""Compositions of methods, wrappers and bases, each built twice: of flatopt's parts, of the oracle's."""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt
from flatopt import curvature
from tests.oracle.trajectory import tree
from tests.sequences import oracle
from tests.sequences import oracle_gradients as gradients
from tests.sequences import oracle_wrappers as wrappers

# By name: the range of a schedule's values, and the values of a constant at an edge.
RANGES = {
  "rho": (0.0, 0.5),
  "eta": (0.0, 1.0),
  "probability": (0.0, 1.0),
  "mixing": (-0.5, 1.5, 0.0, 1.0),
  "degree": (0.0, 1.5),
  "kappa": (0.0, 3.0),
  "flat_fraction": (0.0, 1.0),
  "slow_step_size": (0.0, 1.0),
  "slow_momentum": (0.0, 0.9),
  "interpolation": (0.0, 1.0),
  "alpha": (0.0, 0.8),
  "sigma": (0.0, 1.0),
  "low": (-2.0, 0.0),
  "high": (0.0, 2.0),
}


def draw_tables(rng):
  """A constant or a schedule for every hyper-parameter, as rows."""

  def row(name, low, high, *edges):
    kind = rng.integers(4)
    if kind == 0:
      values = np.full(oracle.NUM_STEPS, rng.choice([low, high, *edges]))
    else:
      values = rng.uniform(low, high, oracle.NUM_STEPS if kind == 1 else ()) + np.zeros(
        oracle.NUM_STEPS
      )
    # Between two ranks, for the four or six coordinates that there are.
    is_rank = name == "flat_fraction" and kind
    return (np.floor(values * 12) + 0.5) / 12 if is_rank else values

  return np.stack([row(name, *of) for name, of in RANGES.items()])


def schedules(tables):
  """As attributes; ``tables`` may be traced."""
  read = lambda i: lambda t: tables[i][t]
  return SimpleNamespace(**{name: read(i) for i, name in enumerate(RANGES)})


class Node(NamedTuple):
  """``library`` and ``oracle`` take the schedules."""

  name: str
  library: Callable[[Any], optax.GradientTransformation]
  oracle: Callable[[Any], oracle.Part]


class Composition(NamedTuple):
  node: Node
  skips: bool  # non-finite gradients do not reach the base
  gets_step: bool
  counts_calls: bool  # through callbacks, which take time

  name = property(lambda self: self.node.name + (" at step" if self.gets_step else ""))


def wrap(name, inner, library, part):
  """A node around another one."""
  return Node(
    f"{name}({inner.name})",
    lambda s: library(s, inner.library(s)),
    lambda s: part(s, inner.oracle(s)),
  )


def draw_base(rng, skips):
  name, library, part = [
    ("sgd", lambda: optax.sgd(0.1), lambda: oracle.Sgd(0.1)),
    ("momentum", lambda: optax.sgd(0.05, 0.9), lambda: oracle.Sgd(0.05, 0.9)),
    ("nesterov", lambda: optax.sgd(0.05, 0.8, True), lambda: oracle.Sgd(0.05, 0.8, True)),
    ("adam", lambda: optax.adam(0.05), lambda: oracle.Adam(0.05)),
  ][rng.integers(4)]
  base = Node(name, lambda s: library(), lambda s: part())
  if rng.random() < 0.5:  # it reads the params, which must be the right ones
    base = wrap(
      "decay",
      base,
      lambda s, base: optax.chain(optax.add_decayed_weights(0.1), base),
      lambda s, base: oracle.Chain(oracle.Decay(), base),
    )
  if skips:
    base = wrap(
      "skip",
      base,
      lambda s, base: optax.apply_if_finite(base, 10**6),
      lambda s, base: oracle.SkipNonFinite(base),
    )
  return base


def draw_sam(rng):
  """What may be inside rst and ae_sam."""
  leaf = ("bias", "kernel")[rng.integers(2)]
  mask = lambda p: jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == leaf, p)
  return [
    Node("sam", lambda s: flatopt.sam(s.rho), lambda s: gradients.Sam(s.rho)),
    Node(
      f"sam of {leaf}",
      lambda s: flatopt.sam(s.rho, mask=mask),
      lambda s: gradients.Sam(s.rho, of_leaves=leaf),
    ),
    Node(
      "sam by momentum",
      lambda s: flatopt.sam(s.rho, ascent=optax.trace(0.8)),
      lambda s: gradients.Sam(s.rho, ascent=oracle.Sgd(-1, 0.8)),
    ),
    Node(
      "asam", lambda s: flatopt.asam(s.rho, eta=s.eta), lambda s: gradients.Sam(s.rho, eta=s.eta)
    ),
    Node(
      "gsam", lambda s: flatopt.gsam(s.rho, alpha=s.alpha), lambda s: gradients.Gsam(s.rho, s.alpha)
    ),
  ][rng.integers(5)]


def draw_before(rng, trained):
  key, k = (int(n) for n in rng.integers(1, 5, 2))
  inner = draw_sam(rng)
  choice = rng.integers(8)
  if choice < 2:
    return inner
  if choice == 2:
    return wrap(
      f"rst[{key}]",
      inner,
      lambda s, inner: flatopt.rst(inner, s.probability, mixing=s.mixing, key=key),
      lambda s, inner: gradients.Rst(inner, s.probability, key, mixing=s.mixing),
    )
  if choice == 3:
    return wrap(
      f"g_rst[{key}]",
      inner,
      lambda s, inner: flatopt.g_rst(inner, s.probability, degree=s.degree, key=key),
      lambda s, inner: gradients.Rst(inner, s.probability, key, degree=s.degree),
    )
  if choice == 4:
    settings = {"num_steps": 4 * k, "decay": 0.2 * k}
    return wrap(
      f"ae_sam[{k}]",
      inner,
      lambda s, inner: flatopt.ae_sam(inner, low=s.low, high=s.high, **settings),
      lambda s, inner: gradients.AeSam(inner, low=s.low, high=s.high, **settings),
    )
  if choice == 5:
    return Node(
      f"looksam[{k}]",
      lambda s: flatopt.looksam(s.rho, alpha=s.alpha, update_interval=k),
      lambda s: gradients.Looksam(s.rho, s.alpha, k),
    )
  if choice == 6:
    return Node(
      f"friendly_sam[{k}]",
      lambda s: flatopt.friendly_sam(s.rho, sigma=s.sigma, decay=0.2 * k),
      lambda s: gradients.FriendlySam(s.rho, s.sigma, 0.2 * k),
    )
  return draw_ire(rng, trained, before=True)


def draw_ire(rng, trained, before=False):
  key, size = int(rng.integers(3)), int(rng.integers(1, 3))
  name, estimator, estimate = [
    ("fisher", curvature.empirical_fisher(), gradients.fisher),
    (
      f"bartlett {key} {size}",
      curvature.gauss_newton_bartlett(size, key=key),
      gradients.bartlett(noise(key), size),
    ),
    (
      f"hutchinson {key} {size}",
      curvature.hutchinson(size, key=key),
      gradients.hutchinson(signs(key, size, trained)),
    ),
  ][rng.integers(3)]
  settings = {
    "update_interval": int(rng.integers(1, 5)),
    "start_step": int(rng.integers(4)),
    "decay": (0.0, 0.7)[rng.integers(2)],
  }
  rho = lambda s: s.rho if before else None
  return Node(
    f"ire{'(rho)' if before else ''}[{name} {[*settings.values()]}]",
    lambda s: flatopt.ire(
      s.kappa, flat_fraction=s.flat_fraction, rho=rho(s), curvature=estimator, **settings
    ),
    lambda s: gradients.Ire(s.kappa, s.flat_fraction, estimate, rho=rho(s), **settings),
  )


def chain(*nodes):
  if len(nodes) == 1:
    return nodes[0]
  return Node(
    " > ".join(node.name for node in nodes),
    lambda s: optax.chain(*(node.library(s) for node in nodes)),
    lambda s: oracle.Chain(*(node.oracle(s) for node in nodes)),
  )


CLIP = Node("clip", lambda s: optax.clip_by_global_norm(1.0), lambda s: oracle.Clip())


def draw_wrappers(rng, node):
  """Those that keep params are not inside one another, as ``check_optimizer`` wants it."""
  k, n = int(rng.integers(1, 4)), int(rng.integers(2, 5))
  if rng.random() < 0.2:
    kind = rng.integers(3)  # of the interpolation: 1 / k, adaptive, a schedule
    given = lambda s: (None, "adaptive", s.interpolation)[kind]
    part = lambda s: (lambda t: 1 / k, None, s.interpolation)[kind]
    eta = (lambda s: None, lambda s: s.eta)[rng.integers(2)]
    node = wrap(
      f"lookbehind[{k}]",
      node,
      lambda s, base: flatopt.lookbehind(
        base, ascent_steps=k, rho=s.rho, interpolation=given(s), eta=eta(s)
      ),
      lambda s, base: wrappers.Lookbehind(base, k, s.rho, part(s), eta(s)),
    )
  choice = rng.integers(6)
  if choice < 2:
    mu = (lambda s: 0.0, lambda s: 0.5, lambda s: s.slow_momentum)[rng.integers(3)]
    schedule = lambda x: x if callable(x) else lambda t: x
    node = wrap(
      f"lookahead[{n - 1}]",
      node,
      lambda s, base: flatopt.lookahead(
        base, sync_period=n - 1, slow_step_size=s.slow_step_size, slow_momentum=mu(s)
      ),
      lambda s, base: wrappers.Lookahead(base, n - 1, s.slow_step_size, schedule(mu(s))),
    )
  elif choice < 4:
    node = wrap(
      f"sala[{n}]",
      node,
      lambda s, base: flatopt.sala(base, sync_period=n, slow_step_size=s.slow_step_size, rho=s.rho),
      lambda s, base: wrappers.Sala(base, n, s.slow_step_size, s.rho),
    )
  elif choice == 4:
    node = wrap(
      "momentum_sam",
      node,
      lambda s, base: flatopt.momentum_sam(base, rho=s.rho),
      lambda s, base: wrappers.MomentumSam(base, s.rho),
    )
  for _ in range(2):
    if rng.random() < 0.2:
      settings = {
        "decay": (None, 0.6)[rng.integers(2)],
        "start_step": int(rng.integers(5)),
        "update_interval": int(rng.integers(1, 4)),
      }
      node = wrap(
        f"weight_average{[*settings.values()]}",
        node,
        lambda s, base, of=settings: flatopt.weight_average(base, **of),
        lambda s, base, of=settings: wrappers.WeightAverage(base, **of),
      )
  if rng.random() < 0.2:
    num_steps = int(rng.integers(1, 12))
    node = wrap(
      f"finish[{num_steps}]",
      node,
      lambda s, base: flatopt.finish(base, num_steps),
      lambda s, base: wrappers.Finish(base, num_steps),
    )
  return node


def draw_composition(rng):
  skips, trained = rng.random() < 0.7, "kernel" if rng.random() < 0.15 else None
  nodes = [draw_base(rng, skips)]
  if rng.random() < 0.75:
    clip = [CLIP] if rng.random() < 0.3 else []
    nodes = [draw_before(rng, trained), *clip, *nodes]
  if rng.random() < 0.3:
    nodes.append(draw_ire(rng, trained))
  node = draw_wrappers(rng, chain(*nodes))
  if trained:
    node = wrap(
      "trainable",
      node,
      lambda s, inner: flatopt.trainable(inner, {"bias": False, "kernel": True}),
      lambda s, inner: wrappers.Trainable(inner, np.arange(6) >= 2),
    )
  gets_step, counts_calls = rng.random(2) < (0.15, 0.25)
  return Composition(node, skips, bool(gets_step), bool(counts_calls))


# What the contract says of draws: draw t of a key uses fold_in(key, t).


def noise_of(key):
  """What a draw of labels adds to the gradient."""
  return jax.random.normal(key, (6,), jnp.float64)


@functools.cache
def noise(key):
  return np.asarray(jax.vmap(noise_of)(oracle.keys(key)))


@functools.cache
def signs(key, num_samples, trained):
  """The Rademacher vectors of each estimate."""
  like = {k: v for k, v in tree(np.zeros(6)).items() if trained in (None, k)}

  def sample(key):
    found = optax.tree.random_like(key, like, jax.random.rademacher, dtype=jnp.int8)
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(found)])

  split = jax.vmap(lambda key: jax.random.split(key, num_samples))(oracle.keys(key))
  return np.asarray(jax.vmap(jax.vmap(sample))(split), float)
