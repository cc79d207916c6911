"""Batches that Grain shuffles, reads in its threads and augments."""

from collections.abc import Sequence

import grain
import jax
import numpy as np

from experiments.config import Augment, Config
from experiments.data import augment
from experiments.training.streams import ReadAhead


def image_transforms(chosen: Augment, dtype: np.dtype) -> list[grain.transforms.RandomMap]:
  """Transforms of single training images; Cutout's grey is about zero to the model."""
  grey = 128 if np.issubdtype(dtype, np.integer) else 0
  transforms = (
    (chosen.size, augment.RandomResizedCrop(chosen.size)),
    (chosen.crop, augment.RandomCrop(chosen.crop)),
    (chosen.flip, augment.RandomFlip()),
    (chosen.cutout, augment.Cutout(chosen.cutout, fill=grey)),
  )
  return [transform for on, transform in transforms if on]


def grain_batches(config: Config, source: Sequence) -> ReadAhead:
  chosen = config.data.augment
  dataset = grain.MapDataset.source(source).seed(config.training.seed).shuffle().repeat()
  if chosen != Augment():
    for transform in image_transforms(chosen, source[0]["image"].dtype):
      dataset = dataset.random_map(transform)
  # Processes split the data after the draws for each image; Mixup draws one weight for all of them.
  dataset = dataset[jax.process_index() :: jax.process_count()]
  dataset = dataset.batch(config.data.batch_size // jax.process_count(), drop_remainder=True)
  if chosen.mixup:
    dataset = dataset.random_map(augment.Mixup(chosen.mixup, config.data.set.classes))
  options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
  return ReadAhead(iter(dataset.to_iter_dataset(options)))
