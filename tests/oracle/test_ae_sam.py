"""AE-SAM: inner(g) where ||g||^2 >= mean + c_t sqrt(variance), else g."""

import jax
import jax.numpy as jnp
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

NUM_STEPS = 20
RADII = np.linspace(0.1, 0.6, NUM_STEPS)


def ae_sam_numpy(num_steps, low=-1.0, high=1.0, decay=0.9, pulls=PULLS):
  """Params after each step, and which steps were sharpness steps."""
  w, base, rows, sharpness_steps = START, numpy_base(), [], []
  mean = variance = 0.0
  for t, pull in enumerate(pulls[:NUM_STEPS]):
    g = gradient(w, pull)
    s = g @ g
    if np.isfinite(s):
      mean = decay * mean + (1 - decay) * s
      variance = decay * variance + (1 - decay) * (s - mean) ** 2
    c = high + (low - high) * min(t / num_steps, 1)
    sharp = bool(np.isfinite(s) and s >= mean + c * np.sqrt(variance))
    w = w + base(gradient(w + RADII[t] * unit(g), pull) if sharp else g, w)
    rows.append(w)
    sharpness_steps.append(sharp)
  return rows, sharpness_steps


def run(base=BASE, pulls=PULLS, **settings):
  method = flatopt.ae_sam(flatopt.sam(table(RADII)), **settings)
  return follow(optax.chain(method, base), NUM_STEPS, pulls)


@pytest.mark.parametrize(
  "settings",
  [
    {"num_steps": 20},
    {"num_steps": 8, "low": -0.5, "high": 0.8, "decay": 0.7},  # the threshold stays at the end
    {"num_steps": 20, "low": 0.7, "high": -0.2, "decay": 0.5},
  ],
)
def test_equation(x64, settings):
  """inner's schedule reads the count of all steps, though its own count lags."""
  rows, (state, _) = run(**settings)
  expected, sharpness_steps = ae_sam_numpy(**settings)
  assert 4 <= sum(sharpness_steps) <= 16
  assert_close(rows, expected)
  np.testing.assert_array_equal(state.sharpness_steps, np.cumsum(sharpness_steps))
  np.testing.assert_array_equal(state.inner.count, np.cumsum(sharpness_steps))
  assert state.count[-1] == NUM_STEPS


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_gradients_enter_no_average_and_cost_nothing(x64, bad):
  pulls = with_rows(PULLS, [3, 9], bad)
  rows, (state, _) = run(SKIPPING, pulls, num_steps=20)
  expected, sharpness_steps = ae_sam_numpy(20, pulls=pulls)
  assert_close(rows, expected)
  np.testing.assert_array_equal(state.sharpness_steps, np.cumsum(sharpness_steps))


def test_a_gradient_whose_variance_overflows_enters_no_average():
  method = flatopt.ae_sam(optax.identity(), num_steps=3)
  g = w = jnp.ones(1)
  _, state = once(method, g, w)
  output, after = once(method, 1e12 * g, w, state=state)
  assert output == 1e12
  assert after.sharpness_steps == 2
  assert (after.mean, after.variance) == (state.mean, state.variance)


def test_ends_of_the_threshold():
  """From s = 1 the averages are 0.1 and 0.081: the first threshold is 0.1 + 0.9 sqrt(0.1) high."""
  g = w = jnp.ones(1)
  for high, sharpness_steps in ((3.1, 1), (3.2, 0)):
    _, state = once(flatopt.ae_sam(optax.identity(), num_steps=1, low=-9.0, high=high), g, w)
    assert state.sharpness_steps == sharpness_steps
  np.testing.assert_allclose([state.mean, state.variance], [0.1, 0.081], rtol=1e-6)
  never = flatopt.ae_sam(optax.identity(), num_steps=4, high=9.0)
  for step, sharpness_steps in ((2, 0), (3, 1), (9, 1)):  # 9, 6.5, 4, 1.5, -1, -1, ...
    _, state = once(never, g, w, step=jnp.array(step))
    assert state.sharpness_steps == sharpness_steps


def test_on_devices_the_averaged_gradient_decides(x64):
  """For all alike, though each alone would decide otherwise; inner gets each one's own."""
  own = np.array([[[3.0, 1.0], [1.0, 3.0]], [[3.0, 0.0], [-3.0, 0.5]]])  # by step and device
  inner = optax.stateless_with_tree_map(lambda g, w: g * g)
  method = flatopt.ae_sam(inner, num_steps=100, high=0.5, axis_name="devices")

  def two_steps(g):
    w = jnp.ones(2)
    first, state = method.update(g[0], method.init(w), w)
    second, state = method.update(g[1], state, w)
    return jnp.stack([first, second]), state

  outputs, state = jax.vmap(two_steps, axis_name="devices", in_axes=1)(jnp.asarray(own))
  assert state.sharpness_steps.tolist() == [1, 1]
  assert_close(outputs, [[[5.0, 5.0], [0.0, 0.25]]] * 2)
  squares = [8.0, 0.0625]
  mean = 0.9 * 0.1 * squares[0] + 0.1 * squares[1]
  assert_close(state.mean, [mean] * 2)


def test_inner_is_given_step_and_extra_arguments():
  inner = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(),
    lambda g, state, params, *, step, bonus: (g + step.astype(g.dtype) + bonus, state),
  )
  method = flatopt.ae_sam(inner, num_steps=3)
  g = jnp.ones(1)
  _, state = once(method, g, g, bonus=10.0)
  output, _ = once(method, 2 * g, g, state=state, bonus=10.0)
  assert output.tolist() == [13]
