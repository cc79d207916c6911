"""The compiled part of a run: initial state, a step, an evaluation, each on a mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import flatopt
from experiments.config import Config, Refusal, reason
from experiments.methods import eval_params, make_optimizer
from experiments.training.losses import Losses, make_task

AXES = ("data", "fsdp")


class TrainState(NamedTuple):
  params: Any
  model_state: Any  # BatchNorm's statistics
  opt_state: optax.OptState
  step: jax.Array

  def gradients(self) -> jax.Array:
    return self.step + flatopt.extra_gradient_evaluations(self.opt_state)


class Program(NamedTuple):
  """Compiled functions of a run, and where its arrays live."""

  init: Callable[[], TrainState]
  start: Callable[[Any, Any], TrainState]  # from params and statistics that there are
  step: Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, jax.Array]]]
  evaluate: Callable[[TrainState, Any, Any], dict[str, jax.Array]]
  shapes: TrainState  # with shardings
  batch_sharding: NamedSharding


def make_mesh(config: Config) -> jax.sharding.Mesh:
  """Batches are split over all devices, params and optimizer state over ``fsdp`` of them."""
  devices, fsdp = jax.device_count(), config.training.fsdp
  size, parts = config.data.batch_size, config.training.microbatches
  if devices % fsdp:
    raise Refusal(f"training.fsdp {fsdp} does not divide the {devices} devices")
  if size % (devices * parts):
    raise Refusal(
      f"data.batch_size {size} does not divide over {devices} devices"
      + (f" in {parts} microbatches" if parts > 1 else "")
    )
  return jax.make_mesh((devices // fsdp, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def sharding(mesh: jax.sharding.Mesh, x: Any) -> NamedSharding:
  """Splits the longest axis that ``fsdp`` divides, if there is one."""
  fsdp = mesh.shape["fsdp"]
  lengths = [length if length % fsdp == 0 else 0 for length in x.shape]
  if fsdp == 1 or not any(lengths):
    return NamedSharding(mesh, PartitionSpec())
  longest = int(np.argmax(lengths))
  return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))


def make_program(config: Config, example: dict[str, np.ndarray]) -> Program:
  """The functions of ``config`` for a source of such examples."""
  training = config.training
  mesh = make_mesh(config)
  model = config.model.build(config.data.set.classes, jnp.dtype(training.compute_dtype))
  train_losses = Losses(model, make_task(config, train=True))
  test_losses = Losses(model, make_task(config, train=False))
  optimizer = make_optimizer(config.opt, config.steps(), key=training.seed)
  init_key, step_key = jax.random.split(jax.random.key(training.seed))
  single = jax.tree.map(lambda x: np.asarray(x)[None], example)

  def init() -> TrainState:
    model_state = dict(model.init(init_key, train_losses.task.inputs(single), train=False))
    return start(model_state.pop("params"), model_state)

  def start(params, model_state) -> TrainState:
    return TrainState(params, model_state, optimizer.init(params), jnp.int32(0))

  def step(state: TrainState, batch, paid):
    key = jax.random.fold_in(step_key, state.step)
    (model_state, metrics), grads, closures = gradients(
      train_losses, training.microbatches, state, batch, key
    )
    updates, opt_state = optimizer.update(
      grads, state.opt_state, state.params, paid=paid, **closures
    )
    params = optax.apply_updates(state.params, updates)
    state = TrainState(params, model_state, opt_state, state.step + 1)
    return state, metrics | {"gradients": state.gradients()}

  def evaluate(state: TrainState, batch, weights_B):
    params = eval_params(state.opt_state, state.params)
    return test_losses.evaluate(params, state.model_state, batch, weights_B)

  try:
    shapes = jax.eval_shape(init)
  except (TypeError, ValueError, ZeroDivisionError) as error:
    raise Refusal(f"{config.model} does not fit the data: {reason(error)}") from error
  shardings = jax.tree.map(lambda x: sharding(mesh, x), shapes)
  everywhere = NamedSharding(mesh, PartitionSpec())
  return Program(
    jax.jit(init, out_shardings=shardings),
    jax.jit(start, out_shardings=shardings),
    jax.jit(step, donate_argnums=0, out_shardings=(shardings, everywhere)),
    jax.jit(evaluate, out_shardings=everywhere),
    jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    ),
    NamedSharding(mesh, PartitionSpec(AXES)),
  )


def gradients(losses: Losses, parts: int, state: TrainState, batch, key):
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
