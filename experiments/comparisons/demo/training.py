"""One run: a model, a method and a seed, until the gradients are spent."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt
from experiments import methods
from experiments.comparisons.demo import data
from experiments.comparisons.demo.config import Config
from experiments.models import mixer
from experiments.presets import demo

CHUNKS = 10  # of a run; after each of them test accuracy is measured


class Task(NamedTuple):
  """What a seed decides besides the initial params: the same for all methods."""

  train: data.Digits
  test: data.Digits
  order_SxB: jax.Array


def make_task(config: Config, seed: int, train: data.Digits, test: data.Digits) -> Task:
  order = data.batch_order(len(train.labels), config.batch_size, config.gradients, seed)
  train = data.with_wrong_labels(train, config.wrong_labels, seed)
  return jax.tree.map(jnp.asarray, Task(train, test, order))


class Run(NamedTuple):
  params: Any
  opt_state: optax.OptState
  step: jax.Array

  def gradients(self) -> jax.Array:
    return self.step + flatopt.extra_gradient_evaluations(self.opt_state)


class Evaluation(NamedTuple):
  """Compiled functions of the model alone, which all methods share."""

  init_params: Callable
  test_accuracy: Callable


def model_and_loss(config: Config):
  model = mixer.Mixer(config.patch, config.width, config.blocks)
  logits_fn = functools.partial(model.apply, train=False)

  def loss_fn(params, images, labels):
    logits = logits_fn(params, images)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

  return model, logits_fn, loss_fn


def compile_evaluation(config: Config, train: data.Digits, test: data.Digits) -> Evaluation:
  model, logits_fn, _ = model_and_loss(config)

  def init_params(seed):
    images = jnp.zeros((1, *train.images.shape[1:]))
    return model.init(jax.random.key(seed), images, train=False)

  def test_accuracy(params, test):
    hits = jnp.argmax(logits_fn(params, test.images), axis=-1) == test.labels
    return 100 * jnp.mean(hits)

  params = jax.eval_shape(init_params, 0)
  return Evaluation(
    jax.jit(init_params).lower(0).compile(),
    jax.jit(test_accuracy).lower(params, test).compile(),
  )


class Program(NamedTuple):
  """Compiled functions of one method, which all seeds share."""

  start: Callable[..., Run]
  advance: Callable[..., Run]


def compile_program(config: Config, method: str, evaluation: Evaluation, task: Task) -> Program:
  _, logits_fn, loss_fn = model_and_loss(config)
  chosen = demo.opt(config.methods[method], method)
  steps = int(config.gradients // chosen.method.gradients)
  optimizer = methods.make_optimizer(chosen, steps, key=0)

  def start(params) -> Run:
    return Run(params, optimizer.init(params), jnp.int32(0))

  def step(run: Run, task: Task) -> Run:
    images, labels = (x[task.order_SxB[run.step]] for x in task.train)
    grad_fn = jax.grad(lambda params: loss_fn(params, images, labels))
    updates, opt_state = optimizer.update(
      grad_fn(run.params),
      run.opt_state,
      run.params,
      grad_fn=grad_fn,
      sampled_grad_fn=flatopt.closures.sampled_label_grad_fn(logits_fn, images),
      paid=run.gradients() / config.gradients,
    )
    return Run(optax.apply_updates(run.params, updates), opt_state, run.step + 1)

  def advance(run: Run, gradients, task: Task) -> Run:
    """Steps until so many gradients are paid: only the loop itself knows when RST's are."""
    return jax.lax.while_loop(
      lambda run: run.gradients() < gradients, lambda run: step(run, task), run
    )

  params = evaluation.init_params(0)
  return Program(
    jax.jit(start).lower(params).compile(),
    jax.jit(advance, donate_argnums=0).lower(jax.eval_shape(start, params), 0, task).compile(),
  )


def train(
  config: Config, program: Program, evaluation: Evaluation, task: Task, seed: int, on_chunk
) -> tuple[dict[str, Any], Any]:
  """One run: what it reached and paid, and its params.

  Calls ``on_chunk(gradients, test_accuracy)``.
  """
  run = program.start(evaluation.init_params(seed))
  curve, seconds = [], 0.0
  for limit in np.linspace(0, config.gradients, CHUNKS + 1)[1:]:
    before = time.perf_counter()
    run = jax.block_until_ready(program.advance(run, int(limit), task))
    seconds += time.perf_counter() - before
    params = flatopt.eval_params(run.opt_state, run.params)
    accuracy = round(float(evaluation.test_accuracy(params, task.test)), 3)
    curve.append((int(run.gradients()), accuracy))
    on_chunk(*curve[-1])
  result = {
    "seed": seed,
    "test_accuracy": curve[-1][1],
    "steps": int(run.step),
    "gradients": curve[-1][0],
    "seconds": round(seconds, 3),
    "curve": curve,
  }
  return result, params
