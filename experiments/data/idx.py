"""Images in IDX files, the format of MNIST and its relatives, as a TFDS set.

A directory holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same two for
``t10k``, gzipped or not: what MNIST, Fashion-MNIST, KMNIST and EMNIST come as, and what Debian's
``dataset-fashion-mnist`` installs.
"""

import dataclasses
import gzip
import hashlib
import re
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.tfds_images import ImageSource, image_source

PREFIXES = {"train": "train", "test": "t10k"}
UNSIGNED_BYTES = 8


def find(directory: Path, prefix: str, kind: str) -> Path:
  """The one file of, say, ``t10k`` and ``labels``."""
  found = sorted(directory.glob(f"{prefix}-{kind}?idx[13]-ubyte*"))
  if not found:
    name = f"{prefix}-{kind}-idx{3 if kind == 'images' else 1}-ubyte[.gz]"
    raise FileNotFoundError(f"IDX images: there is no {name} in {directory}")
  return found[0]


def read_idx(path: Path) -> np.ndarray:
  """An array of bytes: two zeros, a type code, the number of axes, their lengths, the values."""
  content = path.read_bytes()
  damaged = ValueError(f"{path} is no complete IDX file of unsigned bytes")
  try:
    if path.suffix == ".gz":
      content = gzip.decompress(content)
    zeros, code, axes = content[:2], content[2], content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
  except (EOFError, IndexError, OSError, ValueError, zlib.error) as error:
    raise damaged from error
  if zeros != b"\0\0" or code != UNSIGNED_BYTES:
    raise damaged
  return values


@dataclasses.dataclass
class IdxConfig(tfds.core.BuilderConfig):
  directory: Path = Path()


class IdxImages(tfds.core.GeneratorBasedBuilder):
  """Labelled images of a directory of IDX files."""

  VERSION = tfds.core.Version("1.0.0")

  # The base class would look for a CITATIONS.bib and a README.md beside this file.
  def _info(self) -> tfds.core.DatasetInfo:
    directory = self.builder_config.directory
    image = read_idx(find(directory, "train", "images"))[0]
    classes = int(read_idx(find(directory, "train", "labels")).max()) + 1
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Tensor(shape=(*image.shape, 1), dtype=np.uint8, encoding="bytes"),
          "label": tfds.features.ClassLabel(num_classes=classes),
        }
      ),
      supervised_keys=("image", "label"),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {split: self._generate_examples(prefix) for split, prefix in PREFIXES.items()}

  def _generate_examples(self, prefix):
    directory = self.builder_config.directory
    images = read_idx(find(directory, prefix, "images"))
    labels = read_idx(find(directory, prefix, "labels"))
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
      yield index, {"image": image[..., None], "label": int(label)}


def idx_images(split: str, *, directory: str, data_dir: str | None = None) -> ImageSource:
  """The ``train`` or ``test`` split; prepared once, in TFDS's ``data_dir``.

  The prepared set is named by the files' content: changed files are another set.
  """
  source = Path(directory).expanduser()
  digest = hashlib.sha256()
  for prefix in PREFIXES.values():
    for kind in ("images", "labels"):
      digest.update(find(source, prefix, kind).read_bytes())
  name = f"{re.sub(r'[^0-9A-Za-z]+', '_', source.name)}_{digest.hexdigest()[:12]}"
  config = IdxConfig(name=name, directory=source)
  builder = IdxImages(data_dir=data_dir, config=config, file_format="array_record")
  if not builder.is_prepared():
    builder.download_and_prepare()
  return image_source(builder, split)
