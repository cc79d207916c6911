"""Batches of a source, on the mesh: shuffled by Grain for training, in order for evaluation."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from experiments.config import Augment, Config, Refusal
from experiments.data import class_tasks as lifelong
from experiments.data.arrays import Subset, WrongLabels, in_memory
from experiments.training.streams import Gathered, Stream

Batch = dict[str, Any]


def read(config: Config, split: str) -> Sequence:
  try:
    source = config.data.set.source(split)
  except (OSError, Refusal, ValueError) as error:
    raise Refusal(f"no data for {config.name}: {error}") from error
  expected, classes = config.data.set.classes, getattr(source, "classes", None)  # some know
  if classes not in (None, expected):
    raise Refusal(f"{config.data.set.about} has {classes} classes, not data.classes {expected}")
  return source


def held_out(config: Config, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Indices of the training set to train on and to evaluate on; another seed splits otherwise."""
  order = np.random.default_rng(config.training.seed).permutation(size)
  parts = np.split(order, [size - round(config.data.held_out * size)])
  if not all(map(len, parts)):
    raise Refusal(f"data.held_out {config.data.held_out} of {size} examples leaves a part empty")
  return parts


def class_tasks(config: Config) -> list[list[int]]:
  """The classes of each task."""
  if config.data.set.task != "classification":
    raise Refusal(f"{config.name} has no classes to deal to tasks")
  classes, tasks = config.data.set.classes, config.data.lifelong.tasks
  try:
    return lifelong.class_tasks(classes, tasks, config.training.seed)
  except ValueError as error:
    raise Refusal(str(error)) from error


def task_indices(config: Config, source: Sequence, replay: int) -> np.ndarray:
  """Indices in ``source``, with its true labels, of the config's task and of the memory for it."""
  tasks, task = class_tasks(config), config.data.lifelong.task
  labels, seed = lifelong.labels_of(source), config.training.seed
  indices = lifelong.training_indices(labels, tasks, task, replay, seed)
  if not len(indices):
    raise Refusal(f"{config.name} has no examples of task {task}, classes {tasks[task]}")
  return indices


def training_source(config: Config) -> Sequence:
  source = read(config, "train")
  if config.data.held_out:
    source = Subset(source, held_out(config, len(source))[0])
  true_labelled = source
  if config.data.wrong_labels:
    classes, seed = config.data.set.classes, config.training.seed
    source = WrongLabels(source, config.data.wrong_labels, classes, seed)
  if config.data.lifelong.tasks > 1:
    # An example with a wrong label stays in the task of its true class.
    source = Subset(source, task_indices(config, true_labelled, config.data.lifelong.replay))
  return source


def evaluation_source(config: Config) -> Sequence:
  source = read(config, "train" if config.data.held_out else "test")
  if config.data.held_out:
    source = Subset(source, held_out(config, len(source))[1])
  if config.data.lifelong.tasks > 1:
    source = Subset(source, task_indices(config, source, replay=0))
  if config.data.test_examples:
    source = Subset(source, np.arange(min(config.data.test_examples, len(source))))
  return centred(config, source)


def centred(config: Config, source: Sequence) -> Sequence:
  """Crops images of varying sizes to the central square, as evaluation does."""
  if not config.data.augment.size:
    return source
  import grain

  from experiments.data.augment import CentralCrop

  return grain.MapDataset.source(source).map(CentralCrop(config.data.augment.size))


def training_batches(config: Config) -> Stream:
  """This process's part of endless batches: a new permutation every epoch, new augmentations.

  Batches of arrays in memory are gathered by their indices; Grain reads all others, and images of
  varying sizes.
  """
  source, data = training_source(config), config.data
  if in_memory(source) and not data.augment.size:
    transforms = []
    if data.augment != Augment():
      from experiments.data.augment import of_batches

      transforms = of_batches(data)
    return Gathered(source, data.batch_size, config.training.seed, transforms)
  from experiments.training.grain_batches import grain_batches

  return grain_batches(config, source)


def evaluation_batches(source: Sequence, size: int) -> Iterator[tuple[Batch, np.ndarray]]:
  """This process's part of (batch, weights_B), each example once; padding has weight 0."""
  local = size // jax.process_count()
  for start in range(0, len(source), size):
    indices = start + jax.process_index() * local + np.arange(local)
    weights_B = (indices < len(source)).astype(np.float32)
    existing = np.minimum(indices, len(source) - 1)
    if in_memory(source):
      yield source.take(existing), weights_B
      continue
    examples = [source[int(i)] for i in existing]
    yield jax.tree.map(lambda *x: np.stack(x), *examples), weights_B


def place(batch: Any, sharding: NamedSharding) -> Any:
  """Global arrays of every process's part."""
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)  # the same in half the time
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
