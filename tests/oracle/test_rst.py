"""RST: a coin between g and (1 - mixing) * g + mixing * inner(g)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flatopt
from tests.oracle.trajectory import (
  BASE,
  PULLS,
  START,
  assert_close,
  follow,
  gradient,
  numpy_base,
  once,
  quick_jit,
  table,
  unit,
)
from tests.versions import enable_x64

RADII, MIXING = np.linspace(0.1, 0.6, 16), np.linspace(-0.5, 1.5, 16)
ONE = jnp.ones(1)


def heads_of(state):
  return np.diff(np.asarray(state.sharpness_steps), prepend=0)


def toss(num_tosses, probability=0.5, **settings):
  """Heads and tails of a coin that moves nothing."""
  method = flatopt.rst(optax.identity(), probability, **settings)

  def step(state, _):
    _, state = method.update(ONE, state, ONE)
    return state, state

  scan = quick_jit(lambda state: jax.lax.scan(step, state, length=num_tosses)[1])
  return heads_of(scan(method.init(ONE)))


def test_equation(x64):
  """inner's schedule reads the count of all tosses, though its own count lags."""
  method = flatopt.rst(flatopt.sam(table(RADII)), 0.5, mixing=table(MIXING), key=2)
  rows, (state, _) = follow(optax.chain(method, BASE), 16)
  heads = heads_of(state)
  assert 4 <= heads.sum() <= 12
  w, base = START, numpy_base()
  for t, row in enumerate(rows):
    g = gradient(w, PULLS[t])
    sharp = gradient(w + RADII[t] * unit(g), PULLS[t])
    w = w + base((1 - MIXING[t]) * g + MIXING[t] * sharp if heads[t] else g, w)
    assert_close(row, w)
  np.testing.assert_array_equal(state.inner.count, np.cumsum(heads))
  np.testing.assert_array_equal(state.count, np.arange(1, 17))


def test_inner_is_given_step_and_extra_arguments():
  inner = optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(),
    lambda g, state, params, *, step, bonus: (g + step.astype(g.dtype) + bonus, state),
  )
  method = flatopt.rst(inner, 1.0)
  _, state = once(method, ONE, ONE, bonus=10.0)
  output, _ = once(method, ONE, ONE, state=state, bonus=10.0)
  assert output.tolist() == [12]


def test_equal_keys_toss_alike_and_others_do_not():
  heads = toss(64, key=5)
  np.testing.assert_array_equal(toss(64, key=5), heads)
  np.testing.assert_array_equal(toss(64, key=jax.random.key(5, impl="threefry2x32")), heads)
  assert np.any(toss(64, key=6) != heads)
  assert 0 < heads.sum() < 64


def test_an_int_key_does_not_depend_on_the_default_generator():
  with jax.default_prng_impl("rbg"):
    heads = toss(32, key=5)
  np.testing.assert_array_equal(heads, toss(32, key=5))


def toss_at(count, probability=0.5, params=ONE):
  """The same coin at any counts at once."""
  method = flatopt.rst(optax.identity(), probability, key=5)
  state = method.init(params)
  later = lambda count: state._replace(count=count)
  return jax.vmap(lambda t: method.update(params, later(t), params)[1].sharpness_steps)(count)


def test_a_toss_depends_on_key_and_count_alone():
  """Not on the params and their dtype, on ``jit``, or on the devices."""
  heads, counts = toss(64, key=5), jnp.arange(64)
  for dtype in (jnp.bfloat16, jnp.float16, jnp.float64):
    with enable_x64(dtype == jnp.float64):
      params = {"other": jnp.ones((2, 3), dtype)}
      np.testing.assert_array_equal(toss_at(jnp.arange(64, dtype=jnp.int32), params=params), heads)
  mesh = Mesh(np.array(jax.devices()), ("devices",))
  spread = jax.device_put(counts, NamedSharding(mesh, PartitionSpec("devices")))
  np.testing.assert_array_equal(jax.jit(toss_at)(spread), heads)


@pytest.mark.parametrize("probability", [1e-4, 0.1, 0.5, 0.8])
def test_share_of_heads(probability):
  """Of a million: within four standard deviations of a binomial count, neighbours uncorrelated."""
  num_tosses = 10**6
  heads = np.asarray(jax.jit(lambda t: toss_at(t, probability))(jnp.arange(num_tosses)))
  deviation = np.sqrt(probability * (1 - probability) / num_tosses)
  assert abs(heads.mean() - probability) < 4 * deviation
  assert abs(np.corrcoef(heads[1:], heads[:-1])[0, 1]) < 4 / np.sqrt(num_tosses)


def test_probability_schedule_reads_the_count():
  heads = toss(8, table([0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]))
  assert heads.tolist() == [0, 1, 1, 0, 0, 1, 0, 1]


def constant(value):
  return optax.stateless_with_tree_map(lambda g, p: jnp.full_like(g, value))


@pytest.mark.parametrize(
  ("g", "sharp", "probability", "mixing", "expected"),
  [
    (np.nan, 3.0, 1.0, 1.0, 3.0),
    (np.inf, 3.0, 1.0, 1.0, 3.0),
    (2.0, np.nan, 1.0, 0.0, 2.0),
    (2.0, -np.inf, 1.0, 0.0, 2.0),
    (2.0, np.nan, 0.0, 1.0, 2.0),
    (1e30, 3.0, 1.0, 1.0, 3.0),
  ],
)
def test_the_side_not_taken_does_not_leak(g, sharp, probability, mixing, expected):
  method = flatopt.rst(constant(sharp), probability, mixing=mixing)
  output, _ = once(method, jnp.array([g]), ONE)
  assert output.tolist() == [expected]
  outputs = jax.vmap(lambda g: method.update(g, method.init(ONE), ONE)[0])(jnp.array([[g]] * 2))
  assert outputs.tolist() == [[expected]] * 2


def test_bfloat16_is_mixed_in_float32():
  """In bfloat16 this mixing would be 1."""
  w = jnp.ones(1, jnp.bfloat16)
  output, _ = once(flatopt.rst(constant(0.0), 1.0, mixing=1.001), 1000 * w, w)
  assert output.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float32(output), -1, rtol=0.01)
