"""Batches that Grain shuffles, reads in its threads and augments."""

from collections.abc import Sequence

import grain
import jax

from experiments.config import Config
from experiments.data.augment import RandomResizedCrop, of_batches
from experiments.training.streams import ReadAhead


def grain_batches(config: Config, source: Sequence) -> ReadAhead:
  dataset = grain.MapDataset.source(source).seed(config.training.seed).shuffle().repeat()
  if config.data.augment.size:
    dataset = dataset.random_map(RandomResizedCrop(config.data.augment.size))
  # Processes split the data after the draws for each image.
  dataset = dataset[jax.process_index() :: jax.process_count()]
  dataset = dataset.batch(config.data.batch_size // jax.process_count(), drop_remainder=True)
  for transform in of_batches(config.data):
    dataset = dataset.random_map(transform)
  options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
  return ReadAhead(iter(dataset.to_iter_dataset(options)))
