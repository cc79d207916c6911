"""SAM: output grad_fn(w + rho * g / ||g||)."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.trajectory import (
  BASE,
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

RADII = [0.3, 0.1, 0.2, 0.0, 0.5, 0.4]


def sam_numpy(radii, pulls=PULLS):
  w, base, rows = START, numpy_base(), []
  for rho, pull in zip(radii, pulls, strict=False):
    g = gradient(w, pull)
    w = w + base(gradient(w + rho * unit(g), pull), w)
    rows.append(w)
  return rows


def test_equation(x64):
  rows, _ = follow(optax.chain(flatopt.sam(0.3), BASE), 6)
  assert_close(rows, sam_numpy([0.3] * 6))


def test_rho_schedule_reads_the_count(x64):
  rows, _ = follow(optax.chain(flatopt.sam(table(RADII)), BASE), 6)
  assert_close(rows, sam_numpy(RADII))


def test_one_norm_over_all_leaves():
  g = {"a": jnp.array([2.0]), "b": jnp.array([[1.0, 2.0]])}
  w = {"a": jnp.array([10.0]), "b": jnp.array([[20.0, 30.0]])}
  reached, _ = once(flatopt.sam(0.3), g, w, grad_fn=lambda p: p)
  np.testing.assert_allclose(reached["a"], [10.2], rtol=1e-6)
  np.testing.assert_allclose(reached["b"], [[20.1, 30.2]], rtol=1e-6)


MASKS = {
  "pytree": {"bias": False, "kernel": True},
  "callable": lambda params: {name: x.ndim > 1 for name, x in params.items()},
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_mask_leaves_the_other_leaves_out_of_eps_and_its_norm(mask):
  g = {"bias": jnp.array([12.0]), "kernel": jnp.array([[3.0, 4.0]])}
  w = {"bias": jnp.array([1.0]), "kernel": jnp.array([[1.0, 1.0]])}
  reached, _ = once(flatopt.sam(0.5, mask=mask), g, w, grad_fn=lambda p: p)
  assert reached["bias"].tolist() == [1]
  np.testing.assert_allclose(reached["kernel"], [[1.3, 1.4]], rtol=1e-6)


def test_non_finite_gradient_off_the_mask_leaves_as_nan_too():
  g = {"bias": jnp.array([np.nan]), "kernel": jnp.array([3.0])}
  method = flatopt.sam(mask=MASKS["pytree"])
  output, _ = once(method, g, jax.tree.map(jnp.ones_like, g), grad_fn=lambda p: p)
  assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(output))


@pytest.mark.parametrize("rho", [0.3, 0.0])
def test_zero_gradient_gives_zero_perturbation(rho):
  w = jnp.array([1.0, -2.0])
  reached, _ = once(flatopt.sam(rho), jnp.zeros(2), w, grad_fn=lambda p: p)
  np.testing.assert_array_equal(reached, w)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_extreme_gradients_keep_the_radius(scale):
  g = jnp.array([1.0, -2.0, 2.0]) * scale
  reached, _ = once(flatopt.sam(0.3), g, jnp.zeros(3), grad_fn=lambda p: p)
  np.testing.assert_allclose(reached, [0.1, -0.2, 0.2], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_apply_if_finite_behind_it_skips(x64, bad):
  pulls = with_rows(PULLS, [2], bad)
  rows, _ = follow(optax.chain(flatopt.sam(0.3), SKIPPING), 6, pulls)
  assert_close(rows, sam_numpy([0.3] * 6, pulls))
  np.testing.assert_array_equal(rows[2], rows[1])


def test_bfloat16_is_perturbed_in_float32():
  rng = np.random.default_rng(0)
  w, g = (rng.normal(size=64).astype(ml_dtypes.bfloat16) for _ in range(2))
  reached, _ = once(flatopt.sam(0.3), jnp.asarray(g), jnp.asarray(w), grad_fn=lambda p: p)
  assert reached.dtype == jnp.bfloat16
  expected = w.astype(np.float32) + np.float32(0.3) * unit(g.astype(np.float32))
  # All but where float32 itself rounds differently, next to a tie of bfloat16.
  assert np.mean(reached == expected.astype(ml_dtypes.bfloat16)) > 0.95


def test_output_has_the_dtype_of_the_params():
  w = jnp.ones(3, jnp.bfloat16)
  output, _ = once(flatopt.sam(0.3), w, w, grad_fn=lambda p: p.astype(jnp.float32))
  assert output.dtype == jnp.bfloat16


def rms_numpy(decay=0.9, eps=1e-8):
  """``optax.scale_by_rms``; a gradient that is not finite does not change what it keeps."""
  nu = np.zeros(6)

  def ascent(g):
    nonlocal nu
    nu = decay * nu + (1 - decay) * g**2 if np.isfinite(g).all() else nu
    return g / np.sqrt(nu + eps)

  return ascent


def ascent_numpy(ascent, pulls=PULLS, heads=(1,) * 6):
  """Params after each step of SAM along ``ascent(g)``; of the base where there is no head."""
  w, base, rows = START, numpy_base(), []
  for pull, head in zip(pulls, heads, strict=False):
    g = gradient(w, pull)
    w = w + base(gradient(w + 0.3 * unit(ascent(g)), pull) if head else g, w)
    rows.append(w)
  return rows


def test_ascent(x64):
  rows, _ = follow(optax.chain(flatopt.sam(0.3, ascent=optax.scale_by_rms()), BASE), 6)
  assert_close(rows, ascent_numpy(rms_numpy()))


def test_adam_as_ascent(x64):
  moments = [np.zeros(6), np.zeros(6), 0]

  def adam(g):
    m, v, t = moments
    m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2, t + 1
    moments[:] = m, v, t
    return m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

  with jax.numpy_dtype_promotion("standard"):  # optax.scale_by_adam itself promotes
    rows, _ = follow(optax.chain(flatopt.sam(0.3, ascent=optax.scale_by_adam()), BASE), 6)
  np.testing.assert_allclose(rows, ascent_numpy(adam), rtol=1e-6)  # optax's powers are float32


def test_ascent_moves_on_heads_only(x64):
  """On tails nothing of the ascent's state moves, not even where the gradient is no number."""
  heads = [0, 1, 0, 1, 1, 0]
  method = flatopt.rst(
    flatopt.sam(0.3, ascent=optax.scale_by_rms()), table([0.0, 1.0] * 2 + [1, 0])
  )
  pulls = with_rows(PULLS, [2], np.nan)
  rows, (state, _) = follow(optax.chain(method, SKIPPING), 6, pulls)
  assert_close(rows, ascent_numpy(rms_numpy(), pulls, heads))
  assert state.inner.count.tolist() == np.cumsum(heads).tolist()
  for tail in (2, 5):
    for leaf in jax.tree.leaves(state.inner.ascent):
      np.testing.assert_array_equal(leaf[tail], leaf[tail - 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_gradients_do_not_poison_the_ascent(x64, bad):
  pulls = with_rows(PULLS, [2], bad)
  method = flatopt.sam(0.3, ascent=optax.scale_by_rms())
  rows, _ = follow(optax.chain(method, SKIPPING), 6, pulls)
  assert_close(rows, ascent_numpy(rms_numpy(), pulls))
  np.testing.assert_array_equal(rows[2], rows[1])


def test_infinite_gradient_leaves_as_nan_though_its_sign_is_finite():
  g = jnp.array([1.0, np.inf, 3.0])
  method = flatopt.sam(0.3, ascent=optax.scale_by_sign())
  output, _ = once(method, g, jnp.zeros(3), grad_fn=jnp.ones_like)
  assert np.isnan(output).all()
  reached, _ = once(method, jnp.array([2.0, -5.0, 0.0]), jnp.zeros(3), grad_fn=lambda p: p)
  np.testing.assert_allclose(reached, 0.3 * np.array([1, -1, 0]) / np.sqrt(2), rtol=1e-6)


def test_mask_of_an_ascent():
  """The ascent sees all leaves, and keeps state for all; only the mask's are perturbed."""
  g = {"bias": jnp.array([12.0]), "kernel": jnp.array([[3.0, 4.0]])}
  w = jax.tree.map(jnp.ones_like, g)
  method = flatopt.sam(0.5, ascent=optax.trace(0.5), mask=MASKS["pytree"])
  _, state = once(method, jax.tree.map(lambda x: x[..., ::-1], g), w, grad_fn=lambda p: p)
  reached, state = once(method, g, w, grad_fn=lambda p: p, state=state)
  assert reached["bias"].tolist() == [1]
  np.testing.assert_allclose(reached["kernel"], 1 + 0.5 * unit(np.array([[5, 5.5]])), rtol=1e-6)
  assert state.ascent.trace["bias"].tolist() == [18]


def test_ascent_on_devices(x64):
  """Each goes along what the common state makes of its own gradient; the mean moves the state."""
  g = np.random.default_rng(1).normal(size=(2, 4, 6))  # by step and device
  method = flatopt.sam(0.3, ascent=optax.trace(0.5), axis_name="devices")

  def two_steps(g):
    w = jnp.zeros(6)
    _, state = method.update(g[0], method.init(w), w, grad_fn=lambda p: p)
    return method.update(g[1], state, w, grad_fn=lambda p: p)

  outputs, states = jax.vmap(two_steps, axis_name="devices", in_axes=1)(jnp.asarray(g))
  first, second = g.mean(1)
  expected = np.mean([0.3 * unit(own + 0.5 * first) for own in g[1]], axis=0)
  for output, trace in zip(outputs, states.ascent.trace, strict=True):
    assert_close(output, expected)
    assert_close(trace, second + 0.5 * first)


def test_an_ascent_is_given_params_and_extra_arguments():
  ascent = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(),
    lambda g, state, params, *, bonus, **extra_args: (g * params * bonus, state),
  )
  reached, _ = once(
    flatopt.sam(1.0, ascent=ascent),
    jnp.array([3.0, 2.0]),
    jnp.array([1.0, 2.0]),
    grad_fn=lambda p: p,
    bonus=jnp.array([2.0, 2.0]),
  )
  np.testing.assert_allclose(reached, [1.6, 2.8], rtol=1e-6)
