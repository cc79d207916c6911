"""20,000 steps of the demo's Mixer: nothing grows, nothing compiles anew, no average drifts.

At batch 16, because time goes into gradients, and what is looked at here does not depend on them.
"""

import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flatopt
from experiments import presets
from experiments.data.mnist5k import mnist_5k
from tests.methods import AFTER, AROUND, BEFORE

NUM_STEPS, BLOCK, BATCH, LEARNING_RATE = 20_000, 1000, 16, 0.02
SGD = optax.sgd(LEARNING_RATE)
OPTIMIZERS = {
  **{name: optax.chain(make(), SGD) for name, make in BEFORE.items()},
  **{name: optax.chain(SGD, make()) for name, make in AFTER.items()},
  **{name: make(SGD) for name, make in AROUND.items()},
  "weight_average, decay": flatopt.weight_average(SGD, decay=0.999),
}


def lookahead(slow, before, fast, t):
  return slow + 0.5 * (fast - slow) if t % 2 == 0 else slow


# In float64, from the float32 params and gradients of every step: what eval_params has to be.
REFERENCES = {
  "lookahead": lookahead,
  "momentum_sam": lambda w, before, fast, t: w + (fast - before),
  "weight_average": lambda mean, before, fast, t: mean + (fast - mean) / (t + 1),
  "weight_average, decay": lambda mean, before, fast, t: mean + 0.001 * (fast - mean),
}


def make_step(optimizer, model, images, labels):
  """A step that also returns the plain gradient as a vector."""

  def loss_fn(params, rows):
    logits = model.apply({"params": params}, images[rows], train=True)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

  def step(params, state, rows):
    grad_fn = lambda p: jax.grad(loss_fn)(p, rows)
    sampled = flatopt.closures.sampled_label_grad_fn(
      lambda p, rows: model.apply({"params": p}, images[rows], train=True), rows
    )
    grads = grad_fn(params)
    updates, state = optimizer.update(
      grads, state, params, grad_fn=grad_fn, sampled_grad_fn=sampled
    )
    return optax.apply_updates(params, updates), state, ravel_pytree(grads)[0]

  return jax.jit(step, donate_argnums=(0, 1))


def resident_bytes():
  pages = int(Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow  # one to three minutes a method on a quiet core
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_grows(name, full_optimization, compilations):
  optimizer, follow = OPTIMIZERS[name], REFERENCES.get(name)
  digits = mnist_5k()
  images, labels = jnp.asarray(digits.images_NxHxWxC[:4000]), jnp.asarray(digits.labels_N[:4000])
  model = presets.CONFIGS["demo"].model
  model = model.module(model.patch, model.width, model.blocks)
  params = jax.jit(lambda key: model.init(key, images[:1], train=True)["params"])(jax.random.key(0))
  state = jax.jit(optimizer.init)(params)
  step = make_step(optimizer, model, images, labels)
  vector = lambda tree: np.asarray(ravel_pytree(jax.device_get(tree))[0], float)
  reference, rng, blocks = vector(params), np.random.default_rng(0), []
  for t in range(1, NUM_STEPS + 1):
    before = vector(params) if follow else None
    params, state, grads = step(params, state, rng.integers(0, 4000, BATCH, np.int32))
    if follow:
      reference = follow(reference, before, before - LEARNING_RATE * np.asarray(grads, float), t)
    if t % BLOCK == 0:
      jax.block_until_ready(params)
      blocks.append(
        (time.process_time(), resident_bytes(), len(jax.live_arrays()), len(compilations))
      )
  end, memory, arrays, programs = np.array(blocks).T
  seconds = np.diff(end)
  late = np.median(seconds[-5:]) / np.median(seconds[:5])
  growth = np.min(memory[-5:]) - np.min(memory[:5])  # steps in flight take memory for a while
  found, moved = vector(flatopt.eval_params(state, params)), vector(params)
  drift = np.abs(found - reference).max() / np.abs(reference).max() if follow else 0.0
  print(
    f"{name}: {1e3 * np.median(seconds) / BLOCK:.2f} ms a step, late/early {late:.2f},"
    f" memory {growth / 2**20:+.1f} MiB, arrays {arrays[1]:.0f} to"
    f" {arrays[-1]:.0f}, drift {drift:.1e}"
  )
  assert np.isfinite(moved).all()
  assert programs[0] == programs[-1]
  assert arrays[1] == arrays[-1]
  assert growth < 16 * 2**20
  assert late < 1.5
  # Rounding, whose sum walks at random. A mean loses what is smaller, divided by their number.
  assert drift < 2**-24 * (NUM_STEPS if name == "weight_average" else 8 * NUM_STEPS**0.5)
