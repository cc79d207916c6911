"""What eval_params, metrics and extra_gradient_evaluations read from a state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from flatopt.curvature import empirical_fisher, hutchinson
from tests.oracle.trajectory import START, flat, follow, tree

W = tree(jnp.asarray(START, jnp.float32))


def final(optimizer, num_steps):
  """The optimizer's state and params after some steps."""
  rows, state = follow(optimizer, num_steps)
  return jax.tree.map(lambda x: x[-1], state), tree(rows[-1])


class TestEvalParams:
  def test_without_slow_weights_they_are_the_params(self):
    optimizer = optax.chain(flatopt.sam(), optax.sgd(0.1))
    assert flatopt.eval_params(optimizer.init(W), W) is W

  @pytest.mark.parametrize("wrapper", [flatopt.lookahead, flatopt.sala])
  def test_slow_weights(self, x64, wrapper):
    state, params = final(wrapper(optax.sgd(0.1), sync_period=3), 4)
    found = flat(flatopt.eval_params(state, params))
    np.testing.assert_array_equal(found, flat(state.slow))
    assert np.all(found != flat(params))

  def test_the_outermost_wrapper_decides(self, x64):
    inner = flatopt.lookahead(optax.sgd(0.1), sync_period=2)
    state, params = final(flatopt.sala(inner, sync_period=5), 6)
    assert np.any(flat(state.slow) != flat(state.base.slow))
    np.testing.assert_array_equal(flat(flatopt.eval_params(state, params)), flat(state.slow))

  def test_finds_them_inside_optax(self):
    optimizer = optax.inject_hyperparams(flatopt.lookahead, static_args="sync_period")(
      optax.sgd(0.1), slow_step_size=0.5
    )
    _, state = optimizer.update(W, optimizer.init(W), W)
    other = jax.tree.map(jnp.zeros_like, W)
    np.testing.assert_array_equal(flat(flatopt.eval_params(state, other)), flat(W))

  def test_copies(self):
    optimizer = flatopt.lookahead(optax.sgd(0.1))
    _, state = optimizer.update(W, optimizer.init(W), W)
    found = flatopt.eval_params(state, W)
    jax.tree.map(lambda x: x.delete(), state.slow)
    assert np.isfinite(flat(found)).all()


class TestMetrics:
  def test_keys(self):
    metrics = lambda optimizer: set(flatopt.metrics(optimizer.init(W)))
    mask = {"count", "threshold", "flat_share", "refreshes"}
    base = optax.sgd(0.1)
    assert metrics(base) == set()
    assert metrics(flatopt.sam()) == {"sam/count"}
    assert metrics(flatopt.asam()) == {"asam/count"}
    coin = {"count", "sharpness_steps", "probability"}
    assert metrics(flatopt.rst(optax.identity())) == {f"rst/{q}" for q in coin}
    assert metrics(flatopt.g_rst(optax.identity())) == {f"g_rst/{q}" for q in coin}
    estimator = {"empirical_fisher/count"}
    for rho in (None, 0.05):
      expected = {f"ire/{q}" for q in mask} | estimator
      assert metrics(flatopt.ire(rho=rho, curvature=empirical_fisher())) == expected
    assert metrics(flatopt.lookahead(base)) == {"lookahead/count"}
    sala = {"count", "stage", "distance", "extra_gradients"}
    assert metrics(flatopt.sala(base)) == {f"sala/{q}" for q in sala}
    lookbehind = {"count", "extra_gradients", "interpolation"}
    assert metrics(flatopt.lookbehind(base)) == {f"lookbehind/{q}" for q in lookbehind}

  def test_values(self, x64):
    """A method that stands twice is numbered, outer before inner, in the order of the chain."""
    optimizer = flatopt.lookahead(
      optax.chain(
        flatopt.rst(flatopt.sam(), probability=0.0),
        flatopt.rst(flatopt.sam(), probability=1.0),
        flatopt.lookahead(optax.sgd(0.01)),
      )
    )
    state, _ = final(optimizer, 3)
    assert {key: float(value) for key, value in flatopt.metrics(state).items()} == {
      "lookahead/count[0]": 3,
      "lookahead/count[1]": 3,
      "rst/count[0]": 3,
      "rst/sharpness_steps[0]": 0,
      "rst/probability[0]": 0,
      "rst/count[1]": 3,
      "rst/sharpness_steps[1]": 3,
      "rst/probability[1]": 1,
      "sam/count[0]": 0,
      "sam/count[1]": 3,
    }

  def test_flat_share_by_group(self):
    params = {"a": {"x": jnp.arange(4.0), "y": jnp.arange(4.0, 6.0)}, "b": jnp.arange(6.0, 10.0)}
    estimator = optax.stateless(lambda updates, params: params)  # curvature 0, 1, ..., 9
    for rho in (None, 0.05):
      optimizer = flatopt.ire(rho=rho, flat_fraction=0.5, curvature=estimator)
      _, state = optimizer.update(params, optimizer.init(params), params, grad_fn=lambda p: p)
      share = lambda group_fn, state=state: {
        key.removeprefix("ire/flat_share/"): float(value)
        for key, value in flatopt.metrics((state,), group_fn=group_fn).items()
        if "flat_share/" in key
      }
      assert share(lambda path: path) == {"a/x": 1.0, "a/y": 0.5, "b": 0.0}
      assert share(lambda path: path[0]) == {"a": pytest.approx(5 / 6), "b": 0.0}
      assert share(None) == {}


COSTS = {
  "none": (optax.sgd(0.1), 0),
  "sam": (optax.chain(flatopt.sam(), optax.sgd(0.1)), 4),
  "two_sams": (optax.chain(flatopt.sam(), flatopt.sam(), optax.sgd(0.1)), 8),
  "never": (optax.chain(flatopt.rst(flatopt.sam(), 0.0), optax.sgd(0.1)), 0),
  "drift": (
    optax.chain(flatopt.ire(rho=0.05, curvature=hutchinson(3), update_interval=2), optax.sgd(0.1)),
    4 + 2 * 3 * 2,
  ),
  "update": (
    optax.chain(optax.sgd(0.1), flatopt.ire(curvature=empirical_fisher(), update_interval=3)),
    2,
  ),
  "lookbehind_of_sala": (
    flatopt.lookbehind(flatopt.sala(optax.sgd(1e-4), sync_period=2, rho=0.5), ascent_steps=2),
    4 * 2 + 4,
  ),
  "borrowed": (
    optax.chain(optax.sgd(0.1), flatopt.ire(curvature=optax.stateless(lambda u, p: p))),
    0,
  ),
}


@pytest.mark.parametrize(("optimizer", "expected"), COSTS.values(), ids=COSTS)
def test_extra_gradient_evaluations(x64, optimizer, expected):
  """After four steps."""
  cost = flatopt.extra_gradient_evaluations(final(optimizer, 4)[0])
  assert cost == expected
  assert cost.dtype == jnp.int32
  assert cost.shape == ()


def test_extra_gradient_evaluations_of_a_state_of_numpy_arrays():
  """As ``flax.serialization`` and ``jax.device_get`` return it."""
  state = jax.device_get(final(optax.chain(flatopt.sam(), optax.sgd(0.1)), 4)[0])
  cost = flatopt.extra_gradient_evaluations(state)
  assert cost == 4
  assert isinstance(cost, jax.Array)
