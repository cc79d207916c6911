"""The command sharpness: what it measures, against the loss written out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from experiments import config as configuration
from experiments.commands.program import main
from experiments.config import files
from experiments.measures import sharpness
from experiments.measures.sharpness import SharpnessOptions
from experiments.training import saved_runs
from experiments.training.losses import Classification, Losses
from flatopt.sharpness.host import HostMean
from tests.experiments.small import DIGITS

OPTIONS = SharpnessOptions(
  num_eigenvalues=3, num_matvecs=15, num_samples=4, probes=2, resolution=3, ascent_steps=2
)


class Linear(nn.Module):
  @nn.compact
  def __call__(self, x_BxD, *, train: bool):
    assert not train
    return nn.Dense(3)(x_BxD)


@pytest.fixture(scope="module")
def linear():
  """(a run of a linear model, its batches of which the last is padded, its loss by hand)."""
  rng = np.random.default_rng(0)
  x_NxD, labels_N = rng.normal(size=(21, 4)).astype(np.float32), rng.integers(0, 3, 21, np.int32)
  params = Linear().init(jax.random.key(0), x_NxD, train=False)["params"]
  losses = Losses(Linear(), Classification(label_smoothing=0.2))
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  found = saved_runs.Trained(DIGITS, 0, params, {}, losses, losses, sharding)
  source = [{"image": x, "label": y} for x, y in zip(x_NxD, labels_N, strict=True)]

  def loss_fn(params):
    logits_NxK = x_NxD @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    return hand_written_loss(logits_NxK, labels_N, 0.2)

  return found, saved_runs.weighted_batches(found, source, None), loss_fn


def hand_written_loss(logits_NxK, labels_N, smoothing):
  """Cross entropy with a share of every label spread over all classes."""
  logp_NxK = jax.nn.log_softmax(logits_NxK)
  own_N = jnp.take_along_axis(logp_NxK, labels_N[:, None], axis=1)[:, 0]
  return -jnp.mean((1 - smoothing) * own_N + smoothing * jnp.mean(logp_NxK, axis=1))


def dense_eigenvalues(loss_fn, params):
  """Of the whole Hessian, largest first."""
  flat, unravel = ravel_pytree(params)
  return np.linalg.eigvalsh(jax.jit(jax.hessian(lambda w: loss_fn(unravel(w))))(flat))[::-1]


@pytest.mark.slow  # compiles every measure, as does the next
@pytest.mark.parametrize("on_host", [False, True])
def test_measures_are_of_the_mean_over_examples(linear, on_host):
  found, pairs, loss_fn = linear
  assert len(pairs) == 2
  assert sum(weights_B.sum() for _, weights_B in pairs) == 21
  evaluate = sharpness.evaluator(found, pairs, on_host)
  measured = {
    name: jax.device_get(evaluate(one)) for name, one in sharpness.measures(OPTIONS).items()
  }
  params, eigenvalues = found.params, dense_eigenvalues(loss_fn, found.params)
  start, grads = jax.value_and_grad(loss_fn)(params)
  assert measured["loss"] == pytest.approx(float(start), rel=1e-5)
  np.testing.assert_allclose(measured["top_eigenvalues"], eigenvalues[:3], rtol=1e-3)
  trace = measured["trace"]
  assert abs(trace.mean - eigenvalues.sum()) < 5 * trace.standard_error
  average = measured["average"]
  expected = OPTIONS.sigma**2 / 2 * eigenvalues.sum()
  assert abs(average.mean - expected) < 5 * average.standard_error
  # The loss is convex: two steps find a little more than SAM's own one.
  scale = jax.tree.map(lambda w: jnp.abs(w) if w.ndim > 1 else jnp.ones_like(w), params)
  balls = {"ascent": (OPTIONS.rho, optax.tree.ones_like(params))}
  for name, (rho, T) in (balls | {"adaptive_ascent": (OPTIONS.adaptive_rho, scale)}).items():
    direction = optax.tree.mul(T, grads)
    direction = optax.tree.scale(rho / optax.tree.norm(direction), direction)
    one_step = loss_fn(optax.tree.add(params, optax.tree.mul(T, direction))) - start
    assert one_step * 0.999 <= measured[name] <= one_step * 1.1, name
  assert measured["line"][2] == pytest.approx(float(start), rel=1e-5)
  assert measured["plane"][1, 1] == pytest.approx(float(start), rel=1e-5)
  np.testing.assert_allclose(measured["plane"][:, 1], measured["line"][::2], rtol=1e-5)
  grid, density = measured["spectral_density"]
  assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_gradients_are_what_is_paid(linear, monkeypatch):
  found, pairs, _ = linear
  calls = []
  mean = HostMean.mean
  counted = lambda self, transform, *at: (
    calls.append(transform.__name__) or mean(self, transform, *at)
  )
  monkeypatch.setattr(HostMean, "mean", counted)
  evaluate = sharpness.evaluator(found, pairs, on_host=True)
  cost = {"_call": 1 / 3, "_value_and_grad": 1, "_forward_reverse": 2}
  for name, one in sharpness.measures(OPTIONS).items():
    calls.clear()
    evaluate(one)
    assert one.gradients == pytest.approx(sum(cost[call] for call in calls)), name


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--rho", "-1"], "rho must be > 0; got -1.0"),
    (["--sigma", "nan"], "sigma must be > 0; got nan"),
    (["--examples", "0"], "examples must be at least 1; got 0"),
    (["--num-matvecs", "4"], "num_matvecs must be at least 5; got 4"),
    (["--resolution", "2"], "resolution must be at least 3; got 2"),
    (["--kappa", "2"], "Unrecognized options: --kappa"),
    ([], "holds no run: there is no config.json"),
  ],
)
def test_refuses_in_one_line(flags, said, capsys, tmp_path):
  assert main(["sharpness", str(tmp_path), *flags]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line


@pytest.mark.parametrize("command", ["sharpness", "noise"])
def test_refuses_a_run_without_a_checkpoint(command, capsys, tmp_path):
  files.write_json(tmp_path / "config.json", {"config": configuration.to_dict(DIGITS)})
  for _ in range(2):
    assert main([command, str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
