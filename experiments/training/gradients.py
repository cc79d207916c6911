"""A batch's gradients, and the closures that methods ask for more of them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import flatopt
from experiments.training.losses import Losses


def gradients(losses: Losses, parts: int, state: Any, batch, key):
  """A batch's clean pass, ((statistics, metrics), grads), and its closures.

  Dropout's keys follow the microbatch, so that every pass over a batch drops the same.
  """
  size = len(jax.tree.leaves(batch)[0])
  batch = batch | {"part": jnp.arange(size, dtype=jnp.int32) % parts}
  part_key = lambda micro: jax.random.fold_in(key, micro["part"][0])

  def clean_pass(model_state, micro):
    loss_fn = jax.value_and_grad(losses.loss, has_aux=True)
    (_, aux), grads = loss_fn(state.params, model_state, micro, part_key(micro))
    return aux, grads

  def accumulated_pass():
    def add(carry, micro):
      model_state, total = carry
      (model_state, metrics), grads = clean_pass(model_state, micro)
      return (model_state, optax.tree.add(total, grads)), metrics

    # As micro_grad_fn cuts it: devices that share the batch share every part.
    cut = jax.tree.map(
      lambda x: jnp.swapaxes(x.reshape(size // parts, parts, *x.shape[1:]), 0, 1), batch
    )
    start = state.model_state, optax.tree.zeros_like(state.params)
    (model_state, total), metrics = jax.lax.scan(add, start, cut)
    means = jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)
    return (model_state, means), optax.tree.scale(1 / parts, total)

  def grad_of(loss_fn):
    # A single part stays out of a scan, in which XLA:CPU is slow with convolutions.
    if parts == 1:
      return jax.grad(lambda params: loss_fn(params, batch))
    return flatopt.closures.micro_grad_fn(loss_fn, batch, parts)

  def loss_fn(params, micro):
    return losses.loss(params, state.model_state, micro, part_key(micro))[0]

  def sampled_grad_fn(params, label_key):
    def sampled_loss(params, micro):
      labels = jax.random.fold_in(label_key, micro["part"][0])
      return losses.sampled_loss(params, state.model_state, micro, part_key(micro), labels)

    return grad_of(sampled_loss)(params)

  aux, grads = clean_pass(state.model_state, batch) if parts == 1 else accumulated_pass()
  return aux, grads, {"grad_fn": grad_of(loss_fn), "sampled_grad_fn": sampled_grad_fn}
