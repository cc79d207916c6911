"""A batch's gradients, the closures that methods ask for more of them, and what a run has paid."""

from typing import Any

import jax
import jax.numpy as jnp

import flatopt
from experiments.config import Config, Refusal
from experiments.training.losses import Losses


def examples_of_first(config: Config) -> int:
  """Examples in a step's first gradient: as many in every microbatch, and at least one."""
  size, parts = config.data.batch_size, config.training.microbatches
  return parts * max(1, round(config.opt.method.first_share * size / parts))


def gradients_paid(config: Config, step: jax.Array, extra: jax.Array) -> jax.Array:
  """Whole gradients after ``step`` steps of which methods paid ``extra``; begun ones are cut off.

  A first gradient of a part of the batch counts as that share of one.
  """
  size, first = config.data.batch_size, examples_of_first(config)
  # The steps times ``first`` could leave int32's range.
  return step // size * first + step % size * first // size + extra


def check_closure(config: Config) -> None:
  if config.opt.method.closure == "functional" and config.training.microbatches > 1:
    raise Refusal(
      f"{type(config.opt.method).__name__} keeps the logits of a whole batch:"
      f" training.microbatches must be 1, not {config.training.microbatches}"
    )


def gradients(losses: Losses, config: Config, state: Any, batch, key):
  """A batch's clean pass, ((statistics, metrics), grads), and its closures.

  The clean pass sees the part of the batch that the method's first gradient is of, the closures
  see all of it. Dropout's keys follow the microbatch, so that every pass over a batch drops the
  same.
  """
  parts = config.training.microbatches
  batch = batch | {"part": jnp.arange(config.data.batch_size, dtype=jnp.int32) % parts}
  first = jax.tree.map(lambda x: x[: examples_of_first(config)], batch)
  part_key = lambda micro: jax.random.fold_in(key, micro["part"][0])

  def loss_fn(params, micro):
    return losses.loss(params, state.model_state, micro, part_key(micro))

  def functional_grad_fn():
    """Without a pass of its own: the compiler finds the clean pass in it again."""
    step_fn = flatopt.closures.functional_value_and_grad(
      lambda params, inputs: losses.logits(params, state.model_state, inputs, part_key(inputs))[0],
      losses.mean_loss,
    )
    return step_fn(state.params, batch, batch)[2]

  def sampled_grad_fn(params, label_key):
    def sampled_loss(params, micro):
      labels = jax.random.fold_in(label_key, micro["part"][0])
      return losses.sampled_loss(params, state.model_state, micro, part_key(micro), labels)

    return flatopt.closures.micro_value_and_grad(sampled_loss, parts)(params, batch)[1]

  step_fn = flatopt.closures.micro_value_and_grad(loss_fn, parts, has_aux=True)
  (_, aux), grads, grad_fn = step_fn(state.params, first)
  if len(first["part"]) < config.data.batch_size:
    grad_fn = lambda params: step_fn(params, batch)[1]
  if config.opt.method.closure == "functional":
    grad_fn = functional_grad_fn()
  # Every part starts from the old statistics: the mean of the new ones is one moved average.
  aux = jax.tree.map(lambda x: jnp.mean(x, axis=0), aux)
  return aux, grads, {"grad_fn": grad_fn, "sampled_grad_fn": sampled_grad_fn}
