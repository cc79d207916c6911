"""TFDS sets without TensorFlow and without a network, on builders prepared here."""

import gzip
import io
import json
import socket
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments import presets
from experiments.config import Refusal
from experiments.data import tfds_images as tfds_images_module
from experiments.data.arrays import Images
from experiments.data.idx import idx_images, read_idx
from experiments.data.sets import IdxImages, TfdsText
from experiments.data.tfds_images import tfds_images
from experiments.data.tfds_text import tfds_corpus
from experiments.training import batches
from tests.experiments.small import changed

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)
TEXTS = [f"text {i} " * 3 for i in range(40)]


@pytest.fixture(autouse=True)
def cut_off(monkeypatch):
  def refuse(*_):
    raise AssertionError("a connection was opened")

  monkeypatch.setattr(socket.socket, "connect", refuse)


def png(pixels) -> bytes:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  return file.getvalue()


def info(builder, **features):
  return tfds.core.DatasetInfo(builder=builder, features=tfds.features.FeaturesDict(features))


class FlatoptPngs(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    label = tfds.features.ClassLabel(num_classes=10)
    return info(self, image=tfds.features.Image(shape=(4, 5, 3)), label=label)

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples(0, 8), "test": self._generate_examples(8, 10)}

  def _generate_examples(self, start, stop):
    for i in range(start, stop):
      yield i, {"image": png(PIXELS[i]), "label": i}


class FlatoptTexts(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return info(self, text=tfds.features.Text())

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    yield from ((i, {"text": text}) for i, text in enumerate(TEXTS))


def prepare(cls, data_dir, file_format="array_record"):
  builder = cls(data_dir=data_dir, file_format=file_format)
  builder.download_and_prepare()
  return builder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  where = tmp_path_factory.mktemp("tfds")
  prepare(FlatoptPngs, where)
  prepare(FlatoptTexts, where)
  return str(where)


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_are_the_prepared_ones(data_dir, in_memory, monkeypatch):
  monkeypatch.setattr(tfds_images_module, "CHUNK", 3)
  if not in_memory:
    monkeypatch.setattr(tfds_images_module, "IN_MEMORY", 0)
  train = tfds_images("train", name="flatopt_pngs", data_dir=data_dir)
  assert isinstance(train, Images) == in_memory
  assert len(train) == 8
  assert train.classes == 10
  examples = [train[i] for i in range(8)]
  assert sorted(int(example["label"]) for example in examples) == list(range(8))
  for example in examples:
    np.testing.assert_array_equal(example["image"], PIXELS[example["label"]])
    assert example["image"].dtype == np.uint8
    assert example["label"].dtype == np.int32
  assert len(tfds_images("test", name="flatopt_pngs", data_dir=data_dir)) == 2
  assert len(tfds_images("train[:50%]", name="flatopt_pngs", data_dir=data_dir)) == 4
  assert "tensorflow" not in sys.modules


def test_missing_data_is_refused_in_one_line(data_dir, tmp_path):
  def message(error, split="train", **options):
    with pytest.raises(error) as caught:
      tfds_images(split, **({"data_dir": data_dir} | options))
    text = str(caught.value)
    assert "\n" not in text, text
    return text

  command = f"tfds build cifar10 --data_dir={data_dir} --file_format=array_record"
  line = message(FileNotFoundError, name="cifar10")
  assert f"cifar10 is not prepared in {data_dir}" in line
  assert command in line
  assert "no TFDS data set is named 'cifar11'" in message(Refusal, name="cifar11")
  assert "no TFDS data set is named 'kaggle:cifar10'" in message(Refusal, name="kaggle:cifar10")
  assert "no split 'dev', but: " in message(ValueError, "dev", name="flatopt_pngs")
  assert "no image and no label" in message(ValueError, name="flatopt_texts")


def write_idx(path, array):
  header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
  content = header + array.astype(np.uint8).tobytes()
  path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_idx_directory(directory, images, labels, held_out, names=("-", ".gz")):
  directory.mkdir()
  dash, suffix = names
  for prefix, part in (("train", slice(held_out, None)), ("t10k", slice(held_out))):
    write_idx(directory / f"{prefix}-images{dash}idx3-ubyte{suffix}", images[part])
    write_idx(directory / f"{prefix}-labels{dash}idx1-ubyte{suffix}", labels[part])


@pytest.mark.parametrize("names", [("-", ".gz"), (".", "")])
def test_idx_directory(tmp_path, names):
  images, labels = PIXELS[..., 0], np.arange(10)
  write_idx_directory(tmp_path / "my digits", images, labels, 3, names)
  for split, expected in (("train", {*range(3, 10)}), ("test", {0, 1, 2})):
    source = idx_images(split, directory=str(tmp_path / "my digits"))
    examples = [source[i] for i in range(len(source))]
    assert {int(example["label"]) for example in examples} == expected
    for example in examples:
      np.testing.assert_array_equal(example["image"][..., 0], images[example["label"]])
      assert example["image"].dtype == np.uint8
      assert example["label"].dtype == np.int32
  first = IdxImages(str(tmp_path / "my digits"), train_examples=2)
  assert [len(first.source(split)) for split in ("train", "test")] == [2, 3]
  assert first.source("train")[1]["label"] == 4
  assert "tensorflow" not in sys.modules


def test_missing_or_damaged_idx_files(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no train-images-idx3-ubyte\[.gz\] in "):
    idx_images("train", directory=str(tmp_path))
  path = tmp_path / "train-images-idx3-ubyte"
  write_idx(path, PIXELS[..., 0])
  whole = path.read_bytes()
  packed = path.with_name(path.name + ".gz")
  damaged = [(path, whole[:size]) for size in (0, 3, 10, len(whole) - 1)]
  for file, content in [*damaged, (packed, gzip.compress(whole)[:-9]), (packed, b"text")]:
    file.write_bytes(content)
    with pytest.raises(Refusal, match=r"is damaged \(.*\): get it anew"):
      read_idx(file, 3)


@pytest.mark.parametrize(
  ("name", "content", "said"),
  [
    ("train-images", PIXELS[:0, ..., 0], "it holds 0 values"),
    (
      "train-labels",
      np.arange(6),
      "is of shape (7, 4, 5, 1), and its fellows are for (6, 4, 5, 1)",
    ),
    (
      "t10k-images",
      PIXELS[:3, :, :4, 0],
      "is of shape (3, 4, 4, 1), and its fellows are for (3, 4, 5, 1)",
    ),
    ("train-images", np.arange(7), "its header is not that of bytes along 3 axes"),
    ("t10k-labels", np.full(3, 200), "has 201 classes, not data.classes 10"),
  ],
)
def test_idx_files_that_do_not_fit(name, content, said, tmp_path):
  write_idx_directory(tmp_path / "digits", PIXELS[..., 0], np.arange(10), 3)
  (damaged,) = (tmp_path / "digits").glob(f"{name}*")
  write_idx(damaged, content)
  config = changed(
    presets.CONFIGS["fashion-mnist"], data={"set": IdxImages(str(tmp_path / "digits"))}
  )
  with pytest.raises(Refusal) as refused:
    batches.read(config, "train")
  assert said in str(refused.value)
  assert str(tmp_path / "digits") in str(refused.value)


def test_another_number_of_classes_is_refused(tmp_path):
  write_idx_directory(tmp_path / "digits", PIXELS[..., 0], np.arange(10), 3)
  for classes in (4, 100):
    images = IdxImages(str(tmp_path / "digits"), classes)
    config = changed(presets.CONFIGS["fashion-mnist"], data={"set": images})
    with pytest.raises(Refusal, match=f"has 10 classes, not data.classes {classes}"):
      batches.read(config, "train")


def test_texts(data_dir, tmp_path, monkeypatch):
  """Validation is held out of a set that has none, and what is read are its words."""
  documents = tfds_corpus("flatopt_texts", data_dir).documents
  train, validation = list(documents("train")), list(documents("validation"))
  assert sorted(train + validation) == sorted(text.encode() for text in TEXTS)
  assert 0 < len(validation) < 8
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  windows = TfdsText(name="flatopt_texts", data_dir=data_dir, length=4).source("train")
  first = np.concatenate([windows[0]["tokens"][:-1], windows[1]["tokens"]])
  assert first.tolist() == list(train[0][:9])
  assert "tensorflow" not in sys.modules


def test_formats_without_random_access_are_refused(tmp_path):
  written = Path(prepare(FlatoptTexts, tmp_path).data_dir, "dataset_info.json")
  written.write_text(json.dumps(json.loads(written.read_text()) | {"fileFormat": "tfrecord"}))
  with pytest.raises(FileNotFoundError, match="is in tfrecord only, without random access"):
    tfds_corpus("flatopt_texts", str(tmp_path))
