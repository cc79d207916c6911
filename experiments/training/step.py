"""The compiled functions of a run: the initial state, several steps, and an evaluation."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import flatopt
from experiments.config import Config, Lifelong, Refusal, reason
from experiments.methods import (
  eval_params,
  learning_rate,
  make_optimizer,
  tuned_values,
  with_values,
)
from experiments.training.gradients import check_closure, gradients, gradients_paid
from experiments.training.losses import Losses, make_task
from experiments.training.mesh import AXES, make_mesh, sharding

MAX_STEPS, MAX_BYTES = 32, 2**26  # of one dispatch, and of its batches


class TrainState(NamedTuple):
  params: Any
  model_state: Any  # BatchNorm's statistics
  opt_state: optax.OptState
  step: jax.Array


class Stop(NamedTuple):
  """Limits: steps are taken while both counts are below them."""

  step: Any
  gradients: Any


class Inputs(NamedTuple):
  """What a run's functions take besides its data: keys, and the settings that tuning varies.

  Runs that differ in these alone are one program for XLA, which JAX's compilation cache compiles
  once; tasks of a sequence share it without that cache. A method's own key, as RST's and IRE's, is
  part of the program.
  """

  init_key: jax.Array
  step_key: jax.Array
  values: dict[str, dict[str, float]]


class Program(NamedTuple):
  """The compiled functions of a run, their inputs, and the shardings of its arrays."""

  init: Callable[[Inputs], TrainState]
  start: Callable[[Any, Any, Inputs], TrainState]  # from given params and statistics
  steps: Callable[[TrainState, Any, Stop, Inputs], tuple[TrainState, dict[str, Any]]]
  gradients: Callable[[TrainState], jax.Array]  # paid so far
  batches_per_dispatch: int  # that ``steps`` takes
  evaluate: Callable[[TrainState, Any, Any], tuple[dict[str, jax.Array], jax.Array]]  # sums, scores
  shapes: TrainState  # with shardings
  batch_sharding: NamedSharding
  batches_sharding: NamedSharding  # of batches stacked along a leading axis
  inputs: Inputs


def make_program(config: Config, example: dict[str, np.ndarray]) -> Program:
  """The functions of ``config``, for data whose examples are like ``example``."""
  opt, training = config.opt, config.training
  make_optimizer(opt, config.steps(), key=training.seed)  # refuses settings out of their range
  init_key, step_key = jax.random.split(jax.random.key(training.seed))
  inputs = Inputs(init_key, step_key, tuned_values(opt))
  ones = jax.tree.map(lambda value: 1.0, inputs.values)
  alike = dataclasses.replace(
    config,
    data=dataclasses.replace(config.data, lifelong=Lifelong()),  # tasks share a program
    opt=with_values(opt, ones),
    training=dataclasses.replace(training, start_from=None),
  )
  shapes = tuple((name, np.shape(x), np.asarray(x).dtype) for name, x in example.items())
  return Program(*functions(alike, shapes), inputs)


@functools.lru_cache(maxsize=2)  # a compiled program takes tens of megabytes
def functions(config: Config, example_shapes: tuple) -> tuple:
  """The fields of ``Program`` but its inputs, which hold what ``config`` has no value for."""
  training = config.training
  mesh = make_mesh(config)
  check_closure(config)
  model = config.model.build(config.data.set.classes, jnp.dtype(training.compute_dtype))
  train_losses = Losses(model, make_task(config, train=True))
  test_losses = Losses(model, make_task(config, train=False))
  example = {name: np.zeros(shape, dtype) for name, shape, dtype in example_shapes}
  single = jax.tree.map(lambda x: x[None], example)

  def optimizer_of(inputs: Inputs):
    opt = with_values(config.opt, inputs.values)
    return make_optimizer(opt, config.steps(), key=training.seed)

  def init(inputs: Inputs) -> TrainState:
    model_state = model.init(inputs.init_key, train_losses.task.inputs(single), train=False)
    model_state = dict(model_state)
    return start(model_state.pop("params"), model_state, inputs)

  def start(params, model_state, inputs: Inputs) -> TrainState:
    return TrainState(params, model_state, optimizer_of(inputs).init(params), jnp.int32(0))

  def paid(state: TrainState) -> jax.Array:
    extra = flatopt.extra_gradient_evaluations(state.opt_state)
    return gradients_paid(config, state.step, extra)

  def share_paid(state: TrainState) -> jax.Array:
    """Share of the budget, computed on the devices, so that the host does not wait for it."""
    spent = paid(state) if training.unit == "gradients" else state.step
    return spent.astype(jnp.float32) / jnp.float32(training.budget)

  def step(inputs: Inputs, state: TrainState, batch):
    key = jax.random.fold_in(inputs.step_key, state.step)
    (model_state, metrics), grads, closures = gradients(train_losses, config, state, batch, key)
    updates, opt_state = optimizer_of(inputs).update(
      grads, state.opt_state, state.params, paid=share_paid(state), **closures
    )
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, model_state, opt_state, state.step + 1), metrics

  def steps(state: TrainState, batches, stop: Stop, inputs: Inputs):
    state, metrics = take_steps(functools.partial(step, inputs), paid, state, batches, stop)
    outputs = {
      "step": state.step,
      "gradients": paid(state),
      "learning_rate": learning_rate(with_values(config.opt, inputs.values), share_paid(state)),
      "own": flatopt.metrics(state.opt_state),
      "each": metrics,
    }
    return state, outputs

  def evaluate(state: TrainState, batch, weights_B):
    params = eval_params(state.opt_state, state.params)
    sums = test_losses.evaluate(params, state.model_state, batch, weights_B)
    return sums, test_losses.scores(params, state.model_state, batch)

  key = jax.random.key(0)
  try:
    shapes = jax.eval_shape(init, Inputs(key, key, tuned_values(config.opt)))
  except (TypeError, ValueError, ZeroDivisionError) as error:
    raise Refusal(f"{config.model} does not fit the data: {reason(error)}") from error
  shardings = jax.tree.map(lambda x: sharding(mesh, x), shapes)
  everywhere = NamedSharding(mesh, PartitionSpec())
  return (
    jax.jit(init, out_shardings=shardings),
    jax.jit(start, out_shardings=shardings),
    jax.jit(steps, donate_argnums=0, out_shardings=(shardings, everywhere)),
    paid,
    1 if loops_are_slow(shapes.params) else steps_per_dispatch(config, example),
    jax.jit(evaluate, out_shardings=everywhere),
    jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    ),
    NamedSharding(mesh, PartitionSpec(AXES)),
    NamedSharding(mesh, PartitionSpec(None, AXES)),
  )


def take_steps(step: Callable, paid: Callable, state: TrainState, batches: Any, stop: Stop):
  """Takes one step a batch until a limit is reached; returns the state and every step's metrics.

  A single batch is one step without a loop, whatever the limits.
  """
  num_batches = len(jax.tree.leaves(batches)[0])
  batch_at = lambda i: jax.tree.map(lambda x: x[i], batches)
  if num_batches == 1:
    state, metrics = step(state, batch_at(0))
    return state, jax.tree.map(lambda x: x[None], metrics)
  _, metric_shapes = jax.eval_shape(step, state, batch_at(0))
  no_metrics = jax.tree.map(lambda x: jnp.zeros((num_batches, *x.shape), x.dtype), metric_shapes)

  def below_limits(carry):
    i, state, _ = carry
    return (i < num_batches) & (state.step < stop.step) & (paid(state) < stop.gradients)

  def body(carry):
    i, state, so_far = carry
    state, metrics = step(state, batch_at(i))
    return i + 1, state, jax.tree.map(lambda x, new: x.at[i].set(new), so_far, metrics)

  _, state, metrics = jax.lax.while_loop(below_limits, body, (jnp.int32(0), state, no_metrics))
  return state, metrics


def loops_are_slow(params: Any) -> bool:
  """XLA:CPU computes gradients of convolutions fourteen times slower inside loops."""
  convolves = any(len(w.shape) == 4 for w in jax.tree.leaves(params))
  return convolves and jax.default_backend() == "cpu"


def steps_per_dispatch(config: Config, example: dict[str, np.ndarray]) -> int:
  """As many as lie between two log lines, if their batches fit into ``MAX_BYTES``."""
  size = config.data.batch_size * sum(np.asarray(x).nbytes for x in example.values())
  return max(1, min(config.training.log_every, MAX_STEPS, MAX_BYTES // size))
