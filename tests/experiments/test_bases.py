"""Base optimizers: their first steps by hand, and what stands around them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import methods, presets
from experiments.config import Opt
from experiments.methods import eval_params, make_optimizer
from experiments.training import loop
from tests.experiments.small import changed

RATE, DECAY = 0.1, 0.5
W = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
G1 = np.array([[0.3, -0.1], [2.0, 0.4]], np.float32)
G2 = np.array([[-0.2, 0.5], [1.0, -0.3]], np.float32)


def trained(base, grads, **fields):
  """(params, where to evaluate) after a step for each of ``grads``."""
  opt = Opt(methods.Plain(), base, RATE, DECAY, schedule="constant", **fields)
  optimizer = make_optimizer(opt, steps=10, key=0)
  params = {"w": jnp.asarray(W)}
  state = optimizer.init(params)
  for g in grads:
    updates, state = optimizer.update({"w": jnp.asarray(g)}, state, params, paid=jnp.float32(0.3))
    params = jax.tree.map(jnp.add, params, updates)
  return np.asarray(params["w"]), np.asarray(eval_params(state, params)["w"])


def test_lion_steps_by_the_sign():
  w, at = trained(methods.Lion(b1=0.9, b2=0.8), [G1, G2])
  first = W - RATE * (np.sign(G1) + DECAY * W)
  momentum = 0.2 * G1
  second = first - RATE * (np.sign(0.9 * momentum + 0.1 * G2) + DECAY * first)
  np.testing.assert_allclose(w, second, rtol=1e-5)
  np.testing.assert_array_equal(w, at)


def test_muon_s_first_step_is_nearly_orthogonal():
  """Newton and Schulz's singular values are within 30 % of 1, and their scale that of Adam's."""
  w, _ = trained(methods.Muon(rms=0.2), [G1])
  step = (W - w) / RATE - DECAY * W
  u, _, v = np.linalg.svd(G1)
  scale = 0.2 * np.sqrt(2)
  singular = np.diag(u.T @ step @ v.T) / scale
  np.testing.assert_allclose(singular, 1, atol=0.35)
  np.testing.assert_allclose(u.T @ step @ v.T, np.diag(singular * scale), atol=1e-2)


def test_schedule_free_evaluates_at_the_average():
  b1, b2 = 0.8, 0.9
  w, at = trained(methods.ScheduleFreeAdamW(b1=b1, b2=b2), [G1, G2])
  z = x = y = W.astype(np.float64)
  nu = 0.0
  for t, g in enumerate((G1, G2), 1):
    nu = b2 * nu + (1 - b2) * g.astype(np.float64) ** 2
    z = z - RATE * (g / (np.sqrt(nu / (1 - b2**t)) + 1e-8) + DECAY * y)
    x = (1 - 1 / t) * x + z / t
    y = (1 - b1) * z + b1 * x
  np.testing.assert_allclose(w, y, rtol=1e-4)
  np.testing.assert_allclose(at, x, rtol=1e-4)


@pytest.fixture(autouse=True)
def standard_promotion():
  """optax's Adam does not pass under strict promotion."""
  with jax.numpy_dtype_promotion("standard"):
    yield


@pytest.mark.slow  # compiles a training loop for each
@pytest.mark.parametrize("base", methods.BASES)
@pytest.mark.parametrize("method", ["base", "sam"])
def test_every_base_learns_digits(base, method, tmp_path):
  config = presets.find("digits", base if method == "base" else method, base=base)
  config = changed(config, training={"budget": 240, "evaluations": 2}, model={"width": 16})
  assert loop.train(config, tmp_path, Console(quiet=True))["test_accuracy"] > 40  # of 10 by chance
