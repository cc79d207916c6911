"""A run on a TFDS set of photographs, which have their own sizes: without TensorFlow."""

import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from rich.console import Console

from experiments import presets
from experiments.config import files
from experiments.data.sets import TfdsImages
from experiments.measures import sharpness
from experiments.measures.sharpness import SharpnessOptions
from experiments.training import loop, run_directory
from tests.experiments.small import changed, shrunk
from tests.experiments.test_tfds import info, png, prepare

pytestmark = pytest.mark.slow  # a training loop is compiled


class FlatoptPhotos(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    label = tfds.features.ClassLabel(num_classes=3)
    return info(self, image=tfds.features.Image(shape=(None, None, 3)), label=label)

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples(24), "validation": self._generate_examples(10)}

  def _generate_examples(self, num):
    rng = np.random.default_rng(num)
    for i in range(num):
      yield i, {"image": png(rng.integers(0, 256, (20 + i, 40 - i, 3), np.uint8)), "label": i % 3}


def test_imagenet_config(tmp_path):
  prepare(FlatoptPhotos, tmp_path / "tfds")
  photos = TfdsImages("flatopt_photos", 3, "validation", data_dir=str(tmp_path / "tfds"))
  config = changed(
    shrunk(presets.CONFIGS["ire-imagenet-vit-s"]),
    data={"set": photos},
    training={"budget": 2, "evaluations": 1},
  )
  options = SharpnessOptions(
    examples=16, num_eigenvalues=1, num_matvecs=2, num_samples=2, probes=1, resolution=3
  )
  with jax.numpy_dtype_promotion("standard"):  # as users run it
    result = loop.train(config, tmp_path / "run", Console(quiet=True))
    sharpness.measure(tmp_path / "run", options, Console(quiet=True))
  assert result["steps"] == 2
  assert result["test_loss"] > 0
  assert run_directory.read_config(tmp_path / "run") == config
  assert files.read_json(tmp_path / "run" / "sharpness.json")["examples"] == 16
  assert "tensorflow" not in sys.modules
