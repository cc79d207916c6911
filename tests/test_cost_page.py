"""The first table of docs/cost.md: extra gradients and bytes of state, as measured."""

import pathlib
import re

import jax
import jax.numpy as jnp
import optax
import pytest

import flatopt

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "cost.md"
SIZE, NUM_STEPS = 10_000, 50
PARAMS = {"kernel": 0.1 * jnp.arange(float(SIZE))}
SGD = optax.sgd(1e-3)
C = 2  # of the default estimator, hutchinson with one sample
# f is 1 below, because the distance of fast and slow weights stays under rho.
NUMBERS = {"c": C, "f": 1, "update_interval": 5, "sync_period": 5, "ascent_steps": 4}
METHODS = {
  "sam": optax.chain(flatopt.sam(), SGD),
  "asam": optax.chain(flatopt.asam(), SGD),
  "gsam": optax.chain(flatopt.gsam(), SGD),
  "friendly_sam": optax.chain(flatopt.friendly_sam(), SGD),
  "looksam": optax.chain(flatopt.looksam(update_interval=5), SGD),
  "ire()": optax.chain(SGD, flatopt.ire(update_interval=5)),
  "ire(rho=...)": optax.chain(flatopt.ire(rho=0.05, update_interval=5), SGD),
  "lookahead": flatopt.lookahead(SGD),
  "momentum_sam": flatopt.momentum_sam(SGD),
  "weight_average": flatopt.weight_average(SGD),
  "sala": flatopt.sala(SGD, sync_period=5, rho=1.0),
  "lookbehind": flatopt.lookbehind(SGD, ascent_steps=4),
  "rst": optax.chain(flatopt.rst(flatopt.sam(), 0.5), SGD),
  "g_rst": optax.chain(flatopt.g_rst(flatopt.sam(), 0.5), SGD),
  "ae_sam": optax.chain(flatopt.ae_sam(flatopt.sam(), num_steps=NUM_STEPS), SGD),
}


def rows():
  """The cells for extra gradients and state, by method."""
  table = PAGE.read_text().split("\n\n")[2]
  return {
    name: (cells[1].replace("`", ""), cells[3])
    for line in table.splitlines()[2:]
    for cells in [line.strip("| ").split(" | ")]
    for name in re.findall(r"`(.+?)`", cells[0].partition(" around ")[0])
  }


def extra_gradients(optimizer):
  grad_fn = jax.grad(lambda params: jnp.mean(jnp.cos(params["kernel"])))

  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update(grad_fn(params), state, params, grad_fn=grad_fn)
    return (optax.apply_updates(params, updates), state), None

  (_, state), _ = jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), length=NUM_STEPS)
  return int(flatopt.extra_gradient_evaluations(state)) / NUM_STEPS


def num_bytes(optimizer):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(optimizer.init(PARAMS)))


def test_every_method_has_a_row():
  assert rows().keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_extra_gradients(name):
  cell, measured = rows()[name][0], extra_gradients(METHODS[name])
  if "average" in cell or "between" in cell:
    assert 0 < measured <= 1
  else:
    assert measured == pytest.approx(eval(cell, NUMBERS), abs=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_bytes(name):
  expected = int(re.match(r"\d+", rows()[name][1])[0]) * SIZE
  # SGD without momentum has no state.
  assert 0 <= num_bytes(METHODS[name]) - expected <= 28


def test_bytes_of_ire_with_decay():
  expected = int(re.search(r"with `decay` (\d+)", rows()["ire()"][1])[1]) * SIZE
  averaging = flatopt.ire(decay=0.9), flatopt.ire(rho=0.05, decay=0.9)
  for optimizer in averaging:
    assert 0 <= num_bytes(optimizer) - expected <= 28
