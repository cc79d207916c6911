"""``ascent`` and ``average`` on losses whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt import sharpness
from tests.sharpness import dense


def numpy_ascent(hessian, w, rho, num_steps, scale):
  loss = lambda w: w @ hessian @ w / 2
  z, reached = np.zeros_like(w), []
  for _ in range(num_steps):
    direction = scale * (hessian @ (w + scale * z))
    z = z + rho * direction / np.linalg.norm(direction)
    z *= min(1, rho / np.linalg.norm(z))
    reached.append(loss(w + scale * z))
  return max(reached) - loss(w)


@pytest.mark.parametrize("num_steps", [None, 2, 5], ids=["one by default", "two", "five"])
@pytest.mark.parametrize("eta", [None, 0.0, 0.1])
def test_equation(x64, num_steps, eta):
  loss_fn, params, hessian = dense.quadratic(np.linspace(-2, 5, 9))
  flat = np.concatenate([np.ravel(params["a"]), params["b"]])
  # "b" is a bias by its name, and not scaled.
  scale = np.ones(9) if eta is None else np.r_[np.abs(flat[:4]) + eta, np.ones(5)]
  given = {} if num_steps is None else {"num_steps": num_steps}
  measure = lambda p: sharpness.ascent(loss_fn, p, rho=0.3, eta=eta, **given)
  expected = numpy_ascent(hessian, flat, 0.3, num_steps or 1, scale)
  assert float(jax.jit(measure)(params)) == pytest.approx(expected, rel=1e-10)


def test_many_steps_find_the_top_eigenvector(x64):
  eigenvalues = np.linspace(0.1, 5, 9)
  loss_fn, params, _ = dense.quadratic(eigenvalues)
  near_minimum = jax.tree.map(lambda x: 1e-6 * x, params)
  increase = sharpness.ascent(loss_fn, near_minimum, rho=0.3, num_steps=60)
  assert float(increase) == pytest.approx(5 * 0.3**2 / 2, rel=1e-3)


def test_the_largest_increase_is_kept():
  # One step climbs to the ridge at w = 1; the second, from its far side, falls off it.
  loss_fn = lambda w: jnp.sum(jnp.where(w < 1.05, w, -w))
  one, two = (
    sharpness.ascent(loss_fn, jnp.array([0.0, 0.0]), rho=1.5, num_steps=n) for n in (1, 2)
  )
  assert two >= one


def test_the_first_of_five_steps_may_be_the_highest(x64):
  hessian, w = np.diag([-2.0, -3.0]), np.array([3.0, 1.0])
  loss_fn = lambda w: w @ jnp.asarray(hessian) @ w / 2
  one, expected = (numpy_ascent(hessian, w, 3.0, n, np.ones(2)) for n in (1, 5))
  assert one == expected
  increase = sharpness.ascent(loss_fn, jnp.asarray(w), rho=3.0, num_steps=5)
  assert float(increase) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_steps_may_go_down(num_steps):
  """All end at 4 from -1, where the cosine is lower."""
  loss_fn = lambda w: jnp.sum(jnp.cos(w))
  increase = sharpness.ascent(loss_fn, jnp.array([-1.0]), rho=5.0, num_steps=num_steps)
  assert float(increase) == pytest.approx(np.cos(4) - np.cos(1), rel=1e-5)


def test_zero_gradient_finds_nothing():
  assert sharpness.ascent(lambda w: jnp.sum(w**2), jnp.zeros(3), rho=1.0, num_steps=3) == 0


def test_adaptive_does_not_see_a_rescaling_of_layers(x64):
  """(a w_1)(w_2 / a) is the same network: only the l2 ball finds it sharper."""
  x = jnp.linspace(-1.0, 1.0, 8)
  loss_fn = lambda p: jnp.mean((p["in"] * p["out"] * x - 0.5 * x) ** 2)
  measures = {
    scale: [float(sharpness.ascent(loss_fn, params, rho=0.05, eta=eta)) for eta in (0.0, None)]
    for scale in (1.0, 10.0)
    for params in [{"in": jnp.array(scale), "out": jnp.array(1 / scale)}]
  }
  assert measures[10.0][0] == pytest.approx(measures[1.0][0], rel=1e-12)
  assert measures[10.0][1] > 2 * measures[1.0][1]


def test_average_is_half_the_trace(x64):
  loss_fn, params, hessian = dense.quadratic(np.linspace(0, 5, 30))
  measure = jax.jit(
    lambda key: sharpness.average(loss_fn, params, sigma=0.1, num_samples=400, key=key)
  )
  mean, error = measure(jax.random.key(0))
  assert abs(mean - 0.1**2 / 2 * np.trace(hessian)) < 3 * error
  # var(w'Hz) = |Hw|^2 dominates: the error is known, too.
  w = np.concatenate([np.ravel(params["a"]), params["b"]])
  assert error == pytest.approx(0.1 * np.linalg.norm(hessian @ w) / 20, rel=0.1)


def test_no_noise_no_increase():
  assert sharpness.average(lambda w: jnp.sum(w**4), jnp.ones(3), sigma=0.0, key=0) == (0.0, 0.0)


def test_host_loops_give_the_same(x64):
  loss_fn, params, _ = dense.mlp()
  on_host = sharpness.over_iterable(lambda p, scale: scale * loss_fn(p), [0.5, 1.5])
  for measure in (
    lambda fn: sharpness.ascent(fn, params, rho=0.1, num_steps=2, eta=0.01),
    lambda fn: sharpness.average(fn, params, sigma=0.1, num_samples=3, key=1).mean,
  ):
    np.testing.assert_allclose(measure(on_host), measure(loss_fn), rtol=1e-10)
