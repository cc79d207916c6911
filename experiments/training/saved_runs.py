"""Loading saved runs, to measure them or to start others from them."""

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
  """A restored run; the losses' ``evaluate`` runs the model in evaluation mode."""

  config: Config
  step: int
  params: Any  # those that the run's optimizer evaluates at
  model_state: Any  # BatchNorm's statistics
  train_losses: Losses  # with the label smoothing of training
  test_losses: Losses
  batch_sharding: NamedSharding


def load(directory: Path) -> tuple[Config, Program, TrainState]:
  """A run's config, its compiled functions and its last checkpoint's state, on these devices."""
  config = run_directory.read_config(directory)
  saved = directory / "checkpoints"
  if not saved.is_dir():
    raise Refusal(f"{directory} holds no checkpoint")
  program = make_program(_on_these_devices(config), batches.evaluation_source(config)[0])
  checkpoints = Checkpoints(saved, read_only=True)
  restored = checkpoints.restore(program.shapes)
  checkpoints.close()
  if restored is None:
    raise Refusal(f"{directory} holds no checkpoint")
  return config, program, restored[0]


def load_finished(directory: Path) -> tuple[Config, Program, TrainState]:
  """``load``, which refuses a run that is not finished."""
  loaded = load(directory)
  if not (directory / run_directory.SUMMARY).exists():
    raise Refusal(f"{directory}: the run is not finished: run the same `train` again to continue")
  return loaded


def restore(directory: Path) -> Trained:
  """The last checkpoint of a run, finished or not."""
  config, program, state = load(directory)
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
  """``weighted_batches`` on the devices, stacked along a leading axis."""
  mesh, spec = run.batch_sharding.mesh, run.batch_sharding.spec
  together = jax.tree.map(lambda *x: np.stack(x), *pairs)
  return batches.place(together, NamedSharding(mesh, PartitionSpec(None, *spec)))
