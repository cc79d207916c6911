"""Configs made small, on data that is there at once."""

import dataclasses

import numpy as np

from experiments import presets
from experiments.config import DataSet
from experiments.data.sets import IdxImages, StandardLibrary, Text, TfdsImages
from experiments.models.shapes import Llama, Mixer, ResNet, VisionTransformer, WideResNet

SIDE = 8
SMALLEST = {
  Mixer: {"width": 8, "blocks": 1},
  Llama: {"layers": 1, "width": 16, "heads": 2, "hidden": 16},
  ResNet: {"blocks": (1, 1), "width": 4},
  WideResNet: {"depth": 10, "widen": 1},
  VisionTransformer: {"patch": 4, "width": 8, "layers": 1, "heads": 2},
}


@dataclasses.dataclass(frozen=True)
class RandomImages(DataSet):
  """32 images in memory, of one size or of as many."""

  classes: int = 10
  channels: int = 3
  varied: bool = False
  examples: int = 32
  task = "classification"
  about = "random images"

  def source(self, split):
    rng = np.random.default_rng(("train", "test").index(split))
    side = lambda i: SIDE + i * self.varied
    image = lambda i: rng.integers(0, 256, (side(i), side(i // 2), self.channels), np.uint8)
    return [{"image": image(i), "label": np.int32(i % self.classes)} for i in range(self.examples)]


def changed(config, **parts):
  """``config`` with fields of its parts replaced: ``training={"seed": 1}``."""
  replaced = {name: dataclasses.replace(getattr(config, name), **x) for name, x in parts.items()}
  return dataclasses.replace(config, **replaced)


def shrunk(config):
  """Small, and on data that is there."""
  chosen, augment = config.data.set, config.data.augment
  data = {"batch_size": 16, "test_examples": 32}
  if isinstance(chosen, Text):
    data["set"] = StandardLibrary(length=16)
  elif isinstance(chosen, IdxImages | TfdsImages):
    channels = 1 if isinstance(chosen, IdxImages) else 3
    data["set"] = RandomImages(chosen.classes, channels, varied=augment.size > 0)
  if augment.size:
    data["augment"] = dataclasses.replace(augment, size=SIDE)
  return changed(config, data=data, model=SMALLEST[type(config.model)])


DIGITS = shrunk(presets.CONFIGS["digits"])
