"""Saved runs: to start others from, and to measure."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.config import Config, Refusal
from experiments.data.arrays import Subset
from experiments.methods import eval_params
from experiments.training import batches, run_directory
from experiments.training.checkpoints import Checkpoints
from experiments.training.losses import Losses, make_task
from experiments.training.step import Program, TrainState, make_program


class Trained(NamedTuple):
  """What ``restore`` finds; the losses' ``evaluate`` runs the model in evaluation mode."""

  config: Config
  step: int
  params: Any  # where the run's optimizer says to evaluate
  model_state: Any  # BatchNorm's statistics
  train_losses: Losses  # with the labels as smooth as in training
  test_losses: Losses
  batch_sharding: NamedSharding


def saved(directory: Path) -> tuple[Config, Program, TrainState]:
  """A run's config, its functions and the state of its last checkpoint, on the devices here."""
  config = run_directory.read_config(directory)
  where = directory / "checkpoints"
  if not where.is_dir():
    raise Refusal(f"{directory} holds no checkpoint")
  # Opening checkpoints tidies up after a kill, which must not happen under a run that writes them.
  with run_directory.claimed(directory, config):
    program = make_program(_on_these_devices(config), batches.evaluation_source(config)[0])
    checkpoints = Checkpoints(where)
    found = checkpoints.restore(program.shapes)
    checkpoints.close()
  if found is None:
    raise Refusal(f"{directory} holds no checkpoint")
  return config, program, found[0]


def ended(directory: Path) -> tuple[Config, Program, TrainState]:
  """``saved``, of a run that is finished."""
  found = saved(directory)
  if not (directory / "summary.json").exists():
    raise Refusal(f"{directory}: the run is not finished; the same `train` goes on")
  return found


def restore(directory: Path) -> Trained:
  """The last checkpoint of a run, finished or not."""
  config, program, state = saved(directory)
  model = config.model.build(config.data.set.classes, jnp.dtype(config.training.compute_dtype))
  return Trained(
    config,
    int(state.step),
    eval_params(state.opt_state, state.params),
    state.model_state,
    Losses(model, make_task(config, train=True)),
    Losses(model, make_task(config, train=False)),
    program.batch_sharding,
  )


def _on_these_devices(config: Config) -> Config:
  fsdp = math.gcd(config.training.fsdp, jax.device_count())
  return dataclasses.replace(config, training=dataclasses.replace(config.training, fsdp=fsdp))


def weighted_batches(
  run: Trained, source: Any, examples: int | None
) -> list[tuple[batches.Batch, np.ndarray]]:
  """The first ``examples`` of a source in pairs (batch, weights_B), of a microbatch's size.

  All batches have that size, which the devices divide; what pads the last has weight 0.
  """
  size = run.config.data.batch_size // run.config.training.microbatches
  if examples is not None:
    source = Subset(source, np.arange(min(examples, len(source))))
  return list(batches.evaluation_batches(source, size))


def stacked(run: Trained, pairs: list) -> Any:
  """``weighted_batches`` on the devices, along a leading axis that counts them."""
  mesh, spec = run.batch_sharding.mesh, run.batch_sharding.spec
  together = jax.tree.map(lambda *x: np.stack(x), *pairs)
  return batches.place(together, NamedSharding(mesh, PartitionSpec(None, *spec)))
