"""G-RST: RST with mixing = degree / probability, 0 where the probability is 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.test_rst import ONE, constant, heads_of
from tests.oracle.trajectory import (
  BASE,
  PULLS,
  START,
  assert_close,
  follow,
  gradient,
  numpy_base,
  table,
  unit,
)

PROBABILITIES = np.r_[0.0, np.linspace(0.3, 1.0, 15)]
DEGREES = np.linspace(0.2, 1.4, 16)


def test_equation(x64):
  method = flatopt.g_rst(flatopt.sam(0.3), table(PROBABILITIES), degree=table(DEGREES), key=4)
  rows, (state, _) = follow(optax.chain(method, BASE), 16)
  heads = heads_of(state)
  assert 4 <= heads.sum() <= 14
  w, base = START, numpy_base()
  for t, row in enumerate(rows):
    g = gradient(w, PULLS[t])
    if heads[t]:
      mixing = DEGREES[t] / PROBABILITIES[t]
      g = (1 - mixing) * g + mixing * gradient(w + 0.3 * unit(g), PULLS[t])
    w = w + base(g, w)
    assert_close(row, w)


def test_tosses_are_those_of_rst():
  _, (g_rst_state, _) = follow(optax.chain(flatopt.g_rst(flatopt.sam(), key=7), optax.sgd(0.1)), 16)
  _, (rst_state, _) = follow(optax.chain(flatopt.rst(flatopt.sam(), key=7), optax.sgd(0.1)), 16)
  np.testing.assert_array_equal(heads_of(g_rst_state), heads_of(rst_state))


@pytest.mark.parametrize(
  ("probability", "degree"),
  [(1, 0.5), (jnp.array(1), np.float32(0.5)), (np.float64(1), jnp.array(0.5))],
  ids=["int", "int_array", "numpy"],
)
def test_any_kind_of_number(probability, degree):
  method = flatopt.g_rst(constant(10.0), probability, degree=degree)
  assert method.update(ONE, method.init(ONE), ONE)[0].tolist() == [5.5]


def test_probability_0_divides_nothing():
  method = flatopt.g_rst(constant(10.0), 0.0)
  with jax.debug_nans(True), jax.debug_infs(True):
    output, _ = method.update(ONE, method.init(ONE), ONE)
  assert output.tolist() == [1]


def test_degree_is_the_expected_weight():
  method = flatopt.g_rst(constant(2.0), 0.25, degree=0.5)
  state = method.init(ONE)
  at = lambda count: method.update(ONE, state._replace(count=count), ONE)[0][0]
  weights = jax.vmap(at)(jnp.arange(4096)) - 1
  np.testing.assert_allclose(np.unique(weights), [0, 2])
  assert abs(weights.mean() - 0.5) < 4 * 2 * np.sqrt(0.25 * 0.75 / 4096)
