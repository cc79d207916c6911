"""Images in IDX files, the format of MNIST and its relatives.

A directory holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same two for
``t10k``, gzipped or not: what MNIST, Fashion-MNIST, KMNIST and EMNIST come as, and what Debian's
``dataset-fashion-mnist`` installs.
"""

import gzip
import math
from pathlib import Path

import numpy as np

from experiments.config import files
from experiments.data.arrays import Images

PREFIXES = {"train": "train", "test": "t10k"}
AXES = {"images": 3, "labels": 1}
UNSIGNED_BYTES = 8


def find(directory: Path, prefix: str, kind: str) -> Path:
  """The one file of, say, ``t10k`` and ``labels``."""
  found = sorted(directory.glob(f"{prefix}-{kind}?idx[13]-ubyte*"))
  if not found:
    name = f"{prefix}-{kind}-idx{AXES[kind]}-ubyte[.gz]"
    raise FileNotFoundError(f"IDX images: there is no {name} in {directory}")
  return found[0]


def read_idx(path: Path, axes: int) -> np.ndarray:
  """An array of bytes: two zeros, a type code, the number of axes, their lengths, the values."""
  with files.reading(path, "get it anew"):
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
      if file.read(4) != bytes([0, 0, UNSIGNED_BYTES, axes]):
        raise ValueError(f"its header is not that of bytes along {axes} axes")
      shape = np.frombuffer(file.read(4 * axes), ">u4", axes).tolist()
      values = np.frombuffer(file.read(), np.uint8)
    if len(values) != math.prod(shape) or not len(values):
      raise ValueError(f"it holds {len(values)} values, for a shape of {shape}")
  return values.reshape(shape)


def idx_images(split: str, *, directory: str, train_examples: int | None = None) -> Images:
  """The ``train`` split, or its first ``train_examples``, or the whole ``test`` split."""
  where = Path(directory).expanduser()
  read = lambda part, kind: read_idx(find(where, PREFIXES[part], kind), AXES[kind])
  images = {part: read(part, "images")[..., None] for part in PREFIXES}
  labels = {part: read(part, "labels").astype(np.int32) for part in PREFIXES}
  for part, prefix in PREFIXES.items():
    shape = len(labels[part]), *images["train"].shape[1:]
    if images[part].shape != shape:
      path = find(where, prefix, "images")
      raise ValueError(f"{path} is of shape {images[part].shape}, and its fellows are for {shape}")
  classes = 1 + int(max(labels[part].max() for part in PREFIXES))
  first = slice(train_examples if split == "train" else None)
  return Images(images[split][first], labels[split][first], classes)
