"""A classification problem small enough to compile quickly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt

NUM_INPUTS, NUM_HIDDEN, NUM_CLASSES = 4, 5, 3


class Batch(NamedTuple):
  inputs: jax.Array
  labels: jax.Array


def make_params(dtype=float, seed=0):
  rng = np.random.default_rng(seed)

  def layer(num_in, num_out):
    kernel = rng.normal(size=(num_in, num_out)) / np.sqrt(num_in)
    return {
      "kernel": jnp.asarray(kernel, dtype),
      "bias": jnp.asarray(0.1 * rng.normal(size=num_out), dtype),
    }

  return {"hidden": layer(NUM_INPUTS, NUM_HIDDEN), "out": layer(NUM_HIDDEN, NUM_CLASSES)}


def make_batch(seed=0, size=16, dtype=float):
  rng = np.random.default_rng(seed)
  inputs = rng.normal(size=(size, NUM_INPUTS))
  labels = np.argmax(inputs[:, :NUM_CLASSES] ** 2, axis=1)
  return Batch(jnp.asarray(inputs, dtype), jnp.asarray(labels, jnp.int32))


def logits_fn(params, inputs):
  hidden = jnp.tanh(inputs @ params["hidden"]["kernel"] + params["hidden"]["bias"])
  return hidden @ params["out"]["kernel"] + params["out"]["bias"]


def loss_fn(params, batch):
  logits = logits_fn(params, batch.inputs)
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels))


def closures(batch):
  """Every closure that the protocol of ``update`` knows."""
  return {
    "grad_fn": lambda params: jax.grad(loss_fn)(params, batch),
    "sampled_grad_fn": flatopt.closures.sampled_label_grad_fn(logits_fn, batch.inputs),
    "obj_fn": lambda params: loss_fn(params, batch),
  }


def make_step(optimizer):
  """``step(params, state, batch) -> (params, state)``."""

  def step(params, state, batch):
    fns = closures(batch)
    updates, state = optimizer.update(fns["grad_fn"](params), state, params, **fns)
    return optax.apply_updates(params, updates), state

  return step
