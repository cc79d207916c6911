"""Lookbehind: k ascent steps, a descent behind each, and part of the way there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.trajectory import (
  BASE,
  IS_KERNEL,
  PULLS,
  SKIPPING,
  START,
  assert_close,
  follow,
  gradient,
  numpy_base,
  once,
  table,
  unit,
  with_rows,
)

LEAVES = [~IS_KERNEL, IS_KERNEL]


def ascend(p, g, rho, eta, scaled):
  scale = np.ones(6) if eta is None else np.where(scaled, np.abs(p) + eta, 1)
  return p + rho * scale * unit(scale * g)


def adaptive(first, last):
  """alpha of each coordinate, alike within a leaf; cos is 0 where a displacement is."""
  alpha = np.zeros(6)
  for leaf in LEAVES:
    alpha[leaf] = (unit(first[leaf]) @ unit(last[leaf]) + 1) / 2
  return alpha


def lookbehind_numpy(
  num_steps, ascent_steps, radii, alphas=None, etas=None, scaled=IS_KERNEL, pulls=PULLS, base=None
):
  w, base, rows, means = START, base or numpy_base(), [], []
  for t in range(num_steps):
    p, fasts = w, [w]
    g = gradient(p, pulls[t])
    for _ in range(ascent_steps):
      p = ascend(p, g, radii[t], None if etas is None else etas[t], scaled)
      g = gradient(p, pulls[t])
      fasts.append(fasts[-1] + base(g, fasts[-1]))
    alpha = adaptive(fasts[1] - w, fasts[-1] - w) if alphas is None else np.full(6, alphas[t])
    w = w + alpha * (fasts[-1] - w)
    rows.append(w)
    means.append(np.mean([alpha[leaf][0] for leaf in LEAVES]))
  return rows, means


def check(optimizer, expected, pulls=PULLS):
  rows, means = expected
  actual, state = follow(optimizer, len(rows), pulls)
  assert_close(actual, rows)
  np.testing.assert_allclose(state.interpolation, means, rtol=1e-6)
  return state


@pytest.mark.parametrize("ascent_steps", [1, 4])
def test_adaptive(x64, ascent_steps):
  optimizer = flatopt.lookbehind(BASE, ascent_steps=ascent_steps, rho=0.3, interpolation="adaptive")
  expected = lookbehind_numpy(5, ascent_steps, [0.3] * 5)
  state = check(optimizer, expected)
  np.testing.assert_array_equal(state.extra_gradients, ascent_steps * np.arange(1, 6))


def test_schedules_read_the_count_of_iterations(x64):
  radii, alphas, etas = np.linspace(0.1, 0.5, 5), np.linspace(1, 0, 5), np.linspace(0, 0.4, 5)
  optimizer = flatopt.lookbehind(
    BASE,
    ascent_steps=3,
    rho=table(radii),
    interpolation=table(alphas),
    eta=table(etas),
  )
  check(optimizer, lookbehind_numpy(5, 3, radii, alphas, etas))


def test_defaults(x64):
  """Five rounds, and a fifth of the way."""
  check(flatopt.lookbehind(BASE), lookbehind_numpy(4, 5, [0.05] * 4, [0.2] * 4))


@pytest.mark.parametrize("ascent_steps", [2, 5, 10])
@pytest.mark.parametrize("curvature", [2.0, 10.0])
def test_by_default_it_holds_where_the_base_does(ascent_steps, curvature):
  """On a linear regression; at learning rate 0.1, SGD holds below a curvature of 20."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(64, 8))
  x *= np.sqrt(curvature / np.linalg.eigvalsh(2 * x.T @ x / 64)[-1])
  x, y = jnp.asarray(x, jnp.float32), jnp.asarray(x @ rng.normal(size=8), jnp.float32)
  loss_fn = lambda w: jnp.mean((x @ w - y) ** 2)

  def end(**settings):
    optimizer = flatopt.lookbehind(optax.sgd(0.1), ascent_steps=ascent_steps, **settings)

    @jax.jit
    def step(w, state):
      updates, state = optimizer.update(jax.grad(loss_fn)(w), state, w, grad_fn=jax.grad(loss_fn))
      return optax.apply_updates(w, updates), state

    w = jnp.zeros(8)
    state = optimizer.init(w)
    for _ in range(100):
      w, state = step(w, state)
    return float(loss_fn(w))

  # Where it settles: as high as the ascent climbs from the minimum.
  top = curvature * (2 * ascent_steps * 0.05) ** 2
  assert end() < top
  if ascent_steps * 0.1 * curvature > 4:
    assert not end(interpolation=1.0) < 100 * top


@pytest.mark.parametrize("interpolation", [0.3, jnp.array(0.3)])
def test_a_number_may_be_an_array(x64, interpolation):
  optimizer = flatopt.lookbehind(BASE, ascent_steps=2, interpolation=interpolation)
  check(optimizer, lookbehind_numpy(3, 2, [0.05] * 3, [float(interpolation)] * 3))


@pytest.mark.parametrize(
  ("scale_mask", "scaled"),
  [(None, IS_KERNEL), ({"bias": True, "kernel": False}, ~IS_KERNEL)],
  ids=["no_biases", "biases"],
)
def test_asam(x64, scale_mask, scaled):
  """T follows the ascent: |p_i| + eta, not |w| + eta."""
  optimizer = flatopt.lookbehind(
    BASE, ascent_steps=3, rho=0.5, eta=0.05, scale_mask=scale_mask, interpolation="adaptive"
  )
  check(optimizer, lookbehind_numpy(4, 3, [0.5] * 4, None, [0.05] * 4, scaled))


@pytest.mark.parametrize(("ascent_steps", "unroll"), [(1, True), (4, 2)])
def test_unroll_changes_no_number(x64, ascent_steps, unroll):
  optimizer = flatopt.lookbehind(
    BASE, ascent_steps=ascent_steps, rho=0.3, unroll=unroll, interpolation="adaptive"
  )
  check(optimizer, lookbehind_numpy(2, ascent_steps, [0.3] * 2))


def test_base_schedule_advances_once_a_round(x64):
  rates = np.linspace(0.02, 0.2, 12)
  counter = iter(rates)
  base = lambda g, w: -next(counter) * g
  expected = lookbehind_numpy(4, 3, [0.3] * 4, base=base)
  check(
    flatopt.lookbehind(optax.sgd(table(rates)), ascent_steps=3, rho=0.3, interpolation="adaptive"),
    expected,
  )


def test_a_leaf_that_does_not_move_reads_cos_as_0():
  w = {"a": jnp.ones(2), "b": jnp.ones(2)}
  grad_fn = lambda p: {"a": p["a"], "b": 0 * p["b"]}
  optimizer = flatopt.lookbehind(optax.sgd(0.1), ascent_steps=2, rho=0.0, interpolation="adaptive")
  updates, state = once(optimizer, grad_fn(w), w, grad_fn=grad_fn)
  assert updates["b"].tolist() == [0, 0]
  np.testing.assert_allclose(updates["a"], -0.2, rtol=1e-6)  # goes straight on: alpha is 1
  np.testing.assert_allclose(state.interpolation, (1 + 0.5) / 2, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_adaptive_alpha_does_not_depend_on_the_scale(scale):
  """Displacements (1, 0) and (1, 1): cos is 1 / sqrt 2."""
  w = jnp.zeros(2)
  rounds = optax.GradientTransformation(
    lambda params: jnp.zeros((), jnp.int32),
    lambda g, i, params: (jnp.where(i == 0, jnp.array([1.0, 0]), jnp.array([0, 1.0])) * g, i + 1),
  )
  grad_fn = lambda p: jnp.full(2, scale)
  optimizer = flatopt.lookbehind(rounds, ascent_steps=2, rho=0.0, interpolation="adaptive")
  updates, _ = once(optimizer, grad_fn(w), w, grad_fn=grad_fn)
  np.testing.assert_allclose(updates, (np.sqrt(0.5) + 1) / 2 * scale, rtol=1e-5)


def test_apply_if_finite_inside_skips(x64):
  pulls = with_rows(PULLS, [1], np.inf)
  optimizer = flatopt.lookbehind(SKIPPING, ascent_steps=2, rho=0.3, interpolation=0.5)
  expected = lookbehind_numpy(4, 2, [0.3] * 4, [0.5] * 4, pulls=pulls)
  check(optimizer, expected, pulls)
  np.testing.assert_array_equal(expected[0][1], expected[0][0])


def test_non_finite_gradient_reaches_the_base_as_nan():
  g = jnp.array([1.0, np.nan, 3.0])
  optimizer = flatopt.lookbehind(optax.identity(), ascent_steps=2, interpolation=1.0)
  updates, _ = once(optimizer, g, jnp.zeros(3), grad_fn=jnp.ones_like)
  assert np.isnan(updates).all()


def test_bfloat16_keeps_its_dtype():
  w = jnp.ones(4, jnp.bfloat16)
  optimizer = flatopt.lookbehind(optax.sgd(0.5), ascent_steps=2, rho=0.0, interpolation=1.0)
  updates, _ = once(optimizer, w, w, grad_fn=lambda p: p)
  assert updates.dtype == jnp.bfloat16
  assert updates.astype(float).tolist() == [-1] * 4
