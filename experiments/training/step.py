"""The compiled part of a run: initial state, several steps, an evaluation, each on a mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import flatopt
from experiments.config import Config, Refusal, reason
from experiments.methods import eval_params, learning_rate, make_optimizer
from experiments.training.gradients import check_closure, gradients, gradients_paid
from experiments.training.losses import Losses, make_task
from experiments.training.mesh import AXES, make_mesh, sharding

MOST_STEPS, MOST_BYTES = 32, 2**26  # of one dispatch, and of the batches that it is given


class TrainState(NamedTuple):
  params: Any
  model_state: Any  # BatchNorm's statistics
  opt_state: optax.OptState
  step: jax.Array


class Stop(NamedTuple):
  """Steps are taken while both counts are below these."""

  step: Any
  gradients: Any


class Program(NamedTuple):
  """Compiled functions of a run, and where its arrays live."""

  init: Callable[[], TrainState]
  start: Callable[[Any, Any], TrainState]  # from params and statistics that there are
  steps: Callable[[TrainState, Any, Stop], tuple[TrainState, dict[str, Any]]]
  gradients: Callable[[TrainState], jax.Array]  # paid so far
  at_once: int  # batches that ``steps`` is given
  evaluate: Callable[[TrainState, Any, Any], dict[str, jax.Array]]
  shapes: TrainState  # with shardings
  batch_sharding: NamedSharding
  batches_sharding: NamedSharding  # of several, along an axis in front that counts them


def make_program(config: Config, example: dict[str, np.ndarray]) -> Program:
  """The functions of ``config`` for a source of such examples."""
  training = config.training
  mesh = make_mesh(config)
  check_closure(config)
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

  def paid(state: TrainState) -> jax.Array:
    extra = flatopt.extra_gradient_evaluations(state.opt_state)
    return gradients_paid(config, state.step, extra)

  def share_paid(state: TrainState) -> jax.Array:
    """Of the budget, told by the devices: the host does not wait for it."""
    spent = paid(state) if training.unit == "gradients" else state.step
    return spent.astype(jnp.float32) / jnp.float32(training.budget)

  def step(state: TrainState, batch):
    key = jax.random.fold_in(step_key, state.step)
    (model_state, metrics), grads, closures = gradients(train_losses, config, state, batch, key)
    updates, opt_state = optimizer.update(
      grads, state.opt_state, state.params, paid=share_paid(state), **closures
    )
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, model_state, opt_state, state.step + 1), metrics

  def steps(state: TrainState, batches, stop: Stop):
    state, metrics = in_turn(step, paid, state, batches, stop)
    found = {
      "step": state.step,
      "gradients": paid(state),
      "learning_rate": learning_rate(config.opt, share_paid(state)),
      "own": flatopt.metrics(state.opt_state),
      "each": metrics,
    }
    return state, found

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
    jax.jit(steps, donate_argnums=0, out_shardings=(shardings, everywhere)),
    paid,
    1 if loops_are_slow(shapes.params) else steps_at_once(config, example),
    jax.jit(evaluate, out_shardings=everywhere),
    jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    ),
    NamedSharding(mesh, PartitionSpec(AXES)),
    NamedSharding(mesh, PartitionSpec(None, AXES)),
  )


def in_turn(step: Callable, paid: Callable, state: TrainState, batches: Any, stop: Stop):
  """A step a batch until one limit is reached: the state, and the metrics of each step.

  One batch alone is a step without a loop, and without limits.
  """
  at_once = len(jax.tree.leaves(batches)[0])
  batch_at = lambda i: jax.tree.map(lambda x: x[i], batches)
  if at_once == 1:
    state, metrics = step(state, batch_at(0))
    return state, jax.tree.map(lambda x: x[None], metrics)
  _, one = jax.eval_shape(step, state, batch_at(0))
  none = jax.tree.map(lambda x: jnp.zeros((at_once, *x.shape), x.dtype), one)

  def goes_on(carry):
    i, state, _ = carry
    return (i < at_once) & (state.step < stop.step) & (paid(state) < stop.gradients)

  def body(carry):
    i, state, kept = carry
    state, metrics = step(state, batch_at(i))
    return i + 1, state, jax.tree.map(lambda x, new: x.at[i].set(new), kept, metrics)

  _, state, metrics = jax.lax.while_loop(goes_on, body, (jnp.int32(0), state, none))
  return state, metrics


def loops_are_slow(params: Any) -> bool:
  """XLA:CPU is, with gradients of convolutions: fourteen times slower inside its loops."""
  convolves = any(len(w.shape) == 4 for w in jax.tree.leaves(params))
  return convolves and jax.default_backend() == "cpu"


def steps_at_once(config: Config, example: dict[str, np.ndarray]) -> int:
  """As many as are between two logs, and as their batches have room for."""
  size = config.data.batch_size * sum(np.asarray(x).nbytes for x in example.values())
  return max(1, min(config.training.log_every, MOST_STEPS, MOST_BYTES // size))
