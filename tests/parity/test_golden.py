"""The authors' own trajectories, followed to 1e-9 (golden/README.md tells where they are from)."""

import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt

GOLDEN = pathlib.Path(__file__).parent / "golden"
GNB = flatopt.curvature.gauss_newton_bartlett()

# From the settings of a method and a base optimizer to the whole optimizer.
METHODS = {
  "sam": lambda base, **hyper: optax.chain(flatopt.sam(**hyper), base),
  "asam": lambda base, **hyper: optax.chain(flatopt.asam(**hyper), base),
  "ire": lambda base, **hyper: optax.chain(base, flatopt.ire(curvature=GNB, **hyper)),
  "ire_ema": lambda base, **hyper: optax.chain(base, flatopt.ire(curvature=GNB, **hyper)),
  "sam_ire": lambda base, rho, **hyper: optax.chain(
    flatopt.sam(rho), base, flatopt.ire(curvature=GNB, **hyper)
  ),
  "lookahead": flatopt.lookahead,
  "sala": flatopt.sala,
  "lookbehind": flatopt.lookbehind,
  "gsam": lambda base, **hyper: optax.chain(flatopt.gsam(**hyper), base),
  "looksam": lambda base, **hyper: optax.chain(flatopt.looksam(**hyper), base),
  "friendly_sam": lambda base, **hyper: optax.chain(flatopt.friendly_sam(**hyper), base),
  "momentum_sam": flatopt.momentum_sam,
}

NAMES = [
  "sam_sgd",
  "sam_adamw",
  "asam_sgd",
  "ire_sgd",
  "ire_adamw",
  "ire_adamw_ema_cosine",
  "sam_ire_sgd",
  "lookahead_sgd",
  "sala_sgd",
  "sala_adamw",
  "lookbehind_sam_static",
  "lookbehind_sam_adaptive",
  "lookbehind_asam_adaptive",
  "gsam_sgd",
  "looksam_sgd",
  "friendly_sam_sgd",
  "momentum_sam_sgd",
]


@pytest.fixture(autouse=True)
def strict_promotion():
  """Replaces the strictness of conftest.py: optax.adamw mixes ints and floats."""


def make_base(settings, learning_rate):
  if settings["name"] == "sgd":
    momentum, nesterov = settings["momentum"], settings.get("nesterov", False)
    decay = optax.add_decayed_weights(settings["weight_decay"])
    return optax.chain(decay, optax.sgd(learning_rate, momentum, nesterov))
  b1, b2 = settings["betas"]
  decay = settings["weight_decay"]
  return optax.adamw(learning_rate, b1, b2, eps=settings["eps"], weight_decay=decay)


def make_optimizer(config, data):
  hyper = {k: v for k, v in config["hyper"].items() if k not in ("num_flat", "cosine_lr")}
  learning_rate = config["base"]["lr"]
  if config["hyper"].get("cosine_lr"):
    rates, kappa = jnp.asarray(data["learning_rates"]), hyper["kappa"]
    hyper["kappa"] = lambda t: kappa * rates[t] / config["base"]["lr"]
    learning_rate = lambda t: rates[t]
  return METHODS[config["method"]](make_base(config["base"], learning_rate), **hyper)


def unflatten(vector, sizes):
  layers, start = [], 0
  for num_in, num_out in itertools.pairwise(sizes):
    kernel, bias, _ = np.split(vector[start:], [num_in * num_out, (num_in + 1) * num_out])
    layers.append({"kernel": jnp.asarray(kernel.reshape(num_in, num_out)), "bias": bias})
    start += (num_in + 1) * num_out
  return jax.tree.map(jnp.asarray, layers)


def flatten(layers):
  return jnp.concatenate([x for p in layers for x in (p["kernel"].ravel(), p["bias"])])


def loss_fn(layers, inputs, labels):
  for layer in layers[:-1]:
    inputs = jnp.tanh(inputs @ layer["kernel"] + layer["bias"])
  logits = inputs @ layers[-1]["kernel"] + layers[-1]["bias"]
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def replay(config, data):
  """flatopt's params, state and cost after each recorded step."""
  optimizer = make_optimizer(config, data)
  hyper, count = config["hyper"], config["batches"]
  inputs = jnp.asarray(data["X"]).reshape(count, -1, config["sizes"][0])
  labels = jnp.asarray(data["y"]).reshape(count, -1)
  sampled = jnp.asarray(data.get("sampled_labels", np.zeros((1, 1), int)))

  def step(carry, t):
    params, state = carry
    x, y = inputs[t % count], labels[t % count]
    estimate = (t - hyper.get("start_step", 0)) // hyper.get("update_interval", 1)
    grad_fn = lambda p: jax.grad(loss_fn)(p, x, y)
    # Behind the last estimate the index runs over, where the closure is not called.
    sampled_grad_fn = lambda p, key: jax.grad(loss_fn)(p, x, sampled[estimate])
    updates, state = optimizer.update(
      grad_fn(params), state, params, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
    )
    params = optax.apply_updates(params, updates)
    return (params, state), (flatten(params), state, flatopt.extra_gradient_evaluations(state))

  params = unflatten(data["initial"], config["sizes"])
  steps = jnp.arange(config["steps"])
  # It compiles far longer than it runs.
  options = {"xla_backend_optimization_level": 0}
  scan = jax.jit(lambda carry: jax.lax.scan(step, carry, steps)[1], compiler_options=options)
  return scan((params, optimizer.init(params)))


def expected_cost(config, data):
  """Extra gradients after each step."""
  per_step = np.zeros(config["steps"], int)
  if config["method"] == "looksam":
    per_step[:: config["hyper"]["update_interval"]] += 1
  elif "sam" in config["method"] and config["method"] != "momentum_sam":
    per_step += 1
  if "ire" in config["method"]:
    start, interval = config["hyper"]["start_step"], config["hyper"]["update_interval"]
    per_step[start::interval] += 1
    assert np.sum(per_step[start::interval] > 0) == len(data["sampled_labels"])
  if config["method"] == "sala":
    per_step += data["sam_used"]
  if config["method"] == "lookbehind":
    per_step += config["hyper"]["ascent_steps"]
  return np.cumsum(per_step)


@pytest.mark.parametrize("name", NAMES)
def test_golden(x64, name):
  config = json.loads((GOLDEN / f"{name}.json").read_text())
  data = dict(np.load(GOLDEN / f"{name}.npz"))
  rows, state, cost = replay(config, data)
  np.testing.assert_allclose(rows, data["trajectory"][1:], rtol=0, atol=1e-9)
  np.testing.assert_array_equal(cost, expected_cost(config, data))
  if "distance" in data:
    np.testing.assert_allclose(state.distance, data["distance"], rtol=0, atol=1e-9)
  if "evaluation_params" in data:
    perturbation = [flatten(jax.tree.map(lambda x, t=t: x[t], state.perturbation)) for t in (0, -1)]
    unperturbed = np.asarray(rows)[[0, -1]] - np.stack(perturbation)
    np.testing.assert_allclose(unperturbed, data["evaluation_params"][[1, -1]], rtol=0, atol=1e-9)
  if "num_flat" in config["hyper"]:
    flat = jax.tree.leaves(state[-1].mask.flat)
    num_flat = sum(x.reshape(config["steps"], -1).sum(axis=1) for x in flat)
    assert num_flat[-1] == config["hyper"]["num_flat"]
    assert num_flat[0] == 0


def test_every_file_is_replayed():
  assert sorted(NAMES) == sorted(path.stem for path in GOLDEN.glob("*.npz"))
