"""Image sets of TensorFlow Datasets, at random access and without TensorFlow."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.config import Refusal, files
from experiments.data.arrays import Images

IN_MEMORY = 2**30  # bytes: smaller sets are decoded once, which takes seconds, not every epoch
PREPARE = "prepare it again"
CHUNK = 1000  # records read at once: ten times faster than one by one


@dataclasses.dataclass(frozen=True)
class StoredImages:
  """{"image": HxWxC uint8, "label": int32}, decoded as they are asked for."""

  examples: Any
  classes: int
  where: str

  def __len__(self) -> int:
    return len(self.examples)

  def __getitem__(self, index) -> dict[str, np.ndarray]:
    with files.reading(self.where, PREPARE):
      example = self.examples[index]
      return {"image": np.asarray(example["image"]), "label": np.int32(example["label"])}


def tfds_images(split: str, *, name: str, data_dir: str | None = None) -> StoredImages | Images:
  """A split of a prepared set: ``name`` as in ``tfds.builder``, ``split`` in TFDS's own syntax.

  Preparing is TFDS's: it takes a network and, for most sets, TensorFlow.
  """
  builder = prepared_builder(name, data_dir)
  missing = [name for name in ("image", "label") if name not in (builder.info.features or {})]
  if missing:
    raise ValueError(f"{name} is no set of labelled images: it has no {' and no '.join(missing)}")
  examples, features = random_access(builder, split), builder.info.features
  classes, shape = features["label"].num_classes, features["image"].shape
  if None in shape or len(examples) * math.prod(shape) > IN_MEMORY:
    return StoredImages(examples, classes, builder.data_dir)
  images_NxHxWxC = np.empty((len(examples), *shape), np.uint8)
  labels_N = np.empty(len(examples), np.int32)
  for start in range(0, len(examples), CHUNK):
    indices = range(start, min(start + CHUNK, len(examples)))
    with files.reading(builder.data_dir, PREPARE):
      for index, example in zip(indices, examples.__getitems__(list(indices)), strict=True):
        images_NxHxWxC[index], labels_N[index] = example["image"], example["label"]
  return Images(images_NxHxWxC, labels_N, classes)


def prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
  """The builder of a set that is on this machine, in a format of random access."""
  where = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
  unknown = Refusal(f"no TFDS data set is named {name!r}, and none lies in {where}")
  if ":" in name:  # of a namespace, whose code TFDS would fetch and run
    raise unknown
  command = f"tfds build {name} --data_dir={where} --file_format=array_record"
  with files.reading(where / name, PREPARE):
    try:
      builder = tfds.builder(name, data_dir=where)
    except tfds.core.DatasetNotFoundError:
      raise unknown from None
    formats = {form.value for form in builder.info.available_file_formats()}
  if not builder.is_prepared():
    raise FileNotFoundError(
      f"{name} is not prepared in {where}: where there is a network, run `{command}`"
    )
  if not formats & {"array_record", "parquet"}:
    raise FileNotFoundError(
      f"{name} in {where} is in {', '.join(formats)} only, without random access: prepare it in"
      f" another directory, by `{command}`"
    )
  return builder


def random_access(builder: tfds.core.DatasetBuilder, split: str) -> Any:
  splits = builder.info.splits
  if re.split(r"\W", split)[0] not in {"all", *splits}:
    raise ValueError(f"{builder.name} has no split {split!r}, but: {', '.join(splits)}")
  with files.reading(builder.data_dir, PREPARE):
    return builder.as_data_source(split)
