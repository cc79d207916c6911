"""Methods with a closure of their own, or a first gradient of a part of the batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import methods, presets
from experiments.config import Refusal
from experiments.training import batches, step
from experiments.training.gradients import examples_of_first, gradients_paid
from experiments.training.losses import Losses, make_task
from tests.experiments.small import DIGITS, changed, shrunk

RHO, RATE, DECAY = 0.5, 0.1, 0.01
TEXT = changed(shrunk(presets.CONFIGS["llama-0.9m"]), data={"batch_size": 8})


@pytest.fixture(autouse=True)
def standard_promotion(strict_promotion):
  with jax.numpy_dtype_promotion("standard"):  # as users run it
    yield


def one_step(config, method):
  """Params before and after one step, gradients paid, logits of params, the batch, its losses."""
  opt = {"method": method, "base": methods.Sgd(momentum=0.0), "learning_rate": RATE, "clip": None}
  opt |= {"weight_decay": DECAY, "schedule": "constant", "warmup": 0.0}
  config = changed(config, opt=opt, training={"budget": 2, "unit": "steps", "log_every": 1})
  program = step.make_program(config, batches.evaluation_source(config)[0])
  batch = batches.training_batches(config).ahead(0, 1)
  start = program.init(program.inputs)
  before = jax.device_get(start.params)
  placed = batches.place(batch, program.batches_sharding)
  end, found = program.steps(start, placed, step.Stop(np.int32(1), np.int32(99)), program.inputs)
  batch = jax.tree.map(lambda x: jnp.asarray(x[0]), batch)
  model = config.model.build(config.data.set.classes, jnp.float32)
  losses = Losses(model, make_task(config, train=True))
  logits = lambda params, examples: losses.logits(params, {}, examples, jax.random.key(0))[0]
  return before, jax.device_get(end.params), int(found["gradients"]), logits, batch, losses


def stepped(params, grads):
  return jax.tree.map(lambda w, g: w - RATE * (g + DECAY * w), params, grads)


def perturbed(params, direction):
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(direction)))
  return jax.tree.map(lambda w, g: w + RHO * g / norm, params, direction)


def farthest(one, other):
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  return max(np.abs(x - y).max() for x, y in pairs)


def cotangent(logits, batch):
  """Of the mean cross-entropy by the logits: the model's probabilities less the labels'."""
  labels = batch["tokens"][:, 1:] if "tokens" in batch else batch["label"]
  exps = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
  probabilities = exps / exps.sum(axis=-1, keepdims=True)
  return (probabilities - np.eye(logits.shape[-1])[labels]).astype(np.float32) / labels.size


@pytest.mark.parametrize("config", [DIGITS, TEXT], ids=["classes", "tokens"])
def test_functional_sam_keeps_the_derivative_by_the_clean_logits(config):
  before, after, paid, logits, batch, _ = one_step(config, methods.FunctionalSam(RHO))

  @jax.jit
  def pulled_back(params, cotangent):
    _, pull_back = jax.vjp(lambda p: logits(p, batch), params)
    return pull_back(cotangent)[0]

  kept = cotangent(np.asarray(jax.jit(logits)(before, batch)), batch)
  there = perturbed(before, pulled_back(before, kept))
  assert farthest(after, stepped(before, pulled_back(there, kept))) < 1e-5
  moved = cotangent(np.asarray(jax.jit(logits)(there, batch)), batch)
  assert farthest(after, stepped(before, pulled_back(there, moved))) > 1e-4  # that is SAM
  assert paid == 2


def test_partial_sam_climbs_on_the_first_examples_and_steps_on_all():
  method = methods.PartialSam(RHO, share=0.25)
  before, after, _, _, batch, losses = one_step(DIGITS, method)
  loss = lambda params, examples: losses.loss(params, {}, examples, jax.random.key(0))[0]
  grad = jax.jit(jax.grad(loss))
  first = jax.tree.map(lambda x: x[: len(x) // 4], batch)
  there = perturbed(before, grad(before, first))
  assert farthest(after, stepped(before, grad(there, batch))) < 1e-5
  sam = stepped(before, grad(perturbed(before, grad(before, batch)), batch))
  assert farthest(after, sam) > 1e-4


@pytest.mark.parametrize(
  ("share", "size", "parts", "examples"),
  [(1.0, 16, 1, 16), (0.25, 16, 1, 4), (0.3, 16, 2, 4), (0.01, 16, 1, 1), (0.01, 16, 4, 4)],
)
def test_a_part_has_examples_of_every_microbatch(share, size, parts, examples):
  config = changed(
    DIGITS,
    opt={"method": methods.PartialSam(share=share)},
    data={"batch_size": size},
    training={"microbatches": parts},
  )
  assert examples_of_first(config) == examples


def test_partial_sam_pays_a_part_of_its_first_gradient():
  config = changed(DIGITS, opt={"method": methods.PartialSam(share=0.25)})
  paid = lambda steps: int(gradients_paid(config, jnp.int32(steps), jnp.int32(steps)))
  assert [paid(steps) for steps in (0, 1, 3, 4, 8)] == [0, 1, 3, 5, 10]
  assert paid(10**9) == 1_250_000_000
  assert changed(config, training={"budget": 10, "unit": "gradients"}).steps() == 8
  plain = changed(DIGITS, opt={"method": methods.Sam()})
  assert int(gradients_paid(plain, jnp.int32(7), jnp.int32(7))) == 14


def test_functional_sam_costs_no_pass_more_than_sam(full_optimization):
  """The clean pass and the closure's are one in the compiled step."""
  flops = {}
  for method in (methods.Sam(RHO), methods.FunctionalSam(RHO)):
    config = changed(TEXT, opt={"method": method}, training={"log_every": 1})
    program = step.make_program(config, batches.evaluation_source(config)[0])
    batch = batches.place(batches.training_batches(config).ahead(0, 1), program.batches_sharding)
    stop = step.Stop(np.int32(1), np.int32(99))
    compiled = program.steps.lower(program.shapes, batch, stop, program.inputs).compile()
    flops[type(method)] = compiled.cost_analysis()["flops"]
  assert flops[methods.FunctionalSam] < 1.02 * flops[methods.Sam]


def test_what_does_not_go_together_is_refused():
  config = changed(DIGITS, opt={"method": methods.FunctionalSam()}, training={"microbatches": 2})
  with pytest.raises(Refusal, match="microbatches must be 1, not 2"):
    step.make_program(config, batches.evaluation_source(config)[0])
  for share in (0.0, 1.5):
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
      methods.PartialSam(share=share)


def test_periodic_sam_pays_every_so_many_steps():
  assert methods.PeriodicSam(interval=4).gradients == 1.25
  assert dataclasses.replace(methods.PeriodicSam(), interval=1).gradients == 2.0
