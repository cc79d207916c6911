"""Image sets of TensorFlow Datasets, at random access and without TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class ImageSource:
  """{"image": HxWxC uint8, "label": int32} of any TFDS source that has both."""

  examples: Any
  classes: int

  def __len__(self) -> int:
    return len(self.examples)

  def __getitem__(self, index) -> dict[str, np.ndarray]:
    example = self.examples[index]
    return {"image": np.asarray(example["image"]), "label": np.int32(example["label"])}


def tfds_images(split: str, *, name: str, data_dir: str | None = None) -> ImageSource:
  """A split of a prepared set: ``name`` as in ``tfds.builder``, ``split`` in TFDS's own syntax.

  Preparing is TFDS's: it takes a network and, for most sets, TensorFlow.
  """
  builder = prepared_builder(name, data_dir)
  missing = {"image", "label"} - set(builder.info.features or {})
  if missing:
    raise ValueError(f"{name} is no set of labelled images: it has no {' and no '.join(missing)}")
  return image_source(builder, split)


def image_source(builder: tfds.core.DatasetBuilder, split: str) -> ImageSource:
  return ImageSource(random_access(builder, split), builder.info.features["label"].num_classes)


def prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
  """The builder of a set that is on this machine, in a format of random access."""
  where = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
  try:
    builder = tfds.builder(name, data_dir=where)
  except tfds.core.DatasetNotFoundError:
    raise ValueError(f"no TFDS data set is named {name!r}, and none lies in {where}") from None
  command = f"tfds build {name} --data_dir={where} --file_format=array_record"
  if not builder.is_prepared():
    raise FileNotFoundError(
      f"{name} is not prepared in {where}: where there is a network, run `{command}`"
    )
  formats = {form.value for form in builder.info.available_file_formats()}
  if not formats & {"array_record", "parquet"}:
    raise FileNotFoundError(
      f"{name} in {where} is in {', '.join(formats)} only, without random access: prepare it in"
      f" another directory, by `{command}`"
    )
  return builder


def random_access(builder: tfds.core.DatasetBuilder, split: str) -> Any:
  try:
    return builder.as_data_source(split)
  except (KeyError, ValueError) as error:
    splits = ", ".join(builder.info.splits)
    raise ValueError(f"{builder.name} has no split {split!r}, but: {splits}") from error
