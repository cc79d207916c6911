"""Augmentation as Grain transforms: their draws come from a generator that is given.

``RandomResizedCrop`` and ``CentralCrop`` map one example {"image": HxWxC, ...}, since images may
differ in size; all others map a batch of images of one size. Images keep their dtype.
"""

import dataclasses

import grain
import jax
import numpy as np
from PIL import Image

from experiments.config import Data


def rows_of_process(draws: np.ndarray) -> np.ndarray:
  """Of draws for the batch of all processes, those for the part that this process holds."""
  return draws[jax.process_index() :: jax.process_count()]


@dataclasses.dataclass(frozen=True)
class RandomCrop(grain.transforms.RandomMap):
  """Pads with zeros and cuts the image's own size out at random: 4 is CIFAR's custom."""

  padding: int

  def random_map(self, element, rng):
    images = element["image"]
    size, height, width, _ = images.shape
    padded = np.pad(images, [(0, 0), *[(self.padding, self.padding)] * 2, (0, 0)])
    corners = rng.integers(0, 2 * self.padding, (size * jax.process_count(), 2), endpoint=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    cropped = windows[np.arange(size), *rows_of_process(corners).T]
    return element | {"image": np.moveaxis(cropped, 1, -1)}


@dataclasses.dataclass(frozen=True)
class RandomFlip(grain.transforms.RandomMap):
  """Mirrors left to right, every second time."""

  def random_map(self, element, rng):
    images = element["image"]
    flips = rows_of_process(rng.random(len(images) * jax.process_count()) < 0.5)
    return element | {"image": np.where(flips[:, None, None, None], images[:, :, ::-1], images)}


@dataclasses.dataclass(frozen=True)
class Cutout(grain.transforms.RandomMap):
  """Greys a square around a random pixel, cut off at the border (DeVries and Taylor 2017).

  arXiv 1708.04552. Its zeros after normalisation are 128 of bytes here, before it, or 0.
  """

  size: int

  def random_map(self, element, rng):
    images = element["image"]
    size, *sides, _ = images.shape
    inside = []
    for side in sides:
      start = rng.integers(0, side, size * jax.process_count()) - self.size // 2
      offset = np.arange(side) - rows_of_process(start)[:, None]
      inside.append((offset >= 0) & (offset < self.size))
    square = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    grey = images.dtype.type(128 if np.issubdtype(images.dtype, np.integer) else 0)
    return element | {"image": np.where(square, grey, images)}


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(grain.transforms.RandomMap):
  """A box of 8 to 100 % of the area, 3:4 to 4:3 in shape, resized to a square: ImageNet's.

  Szegedy et al. 2015 (arXiv 1409.4842). Images are uint8 of one or three channels.
  """

  size: int

  def random_map(self, element, rng):
    image = element["image"]
    height, width = image.shape[:2]
    for _ in range(10):
      area = height * width * rng.uniform(0.08, 1)
      ratio = np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
      h, w = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
      if 0 < h <= height and 0 < w <= width:
        top, left = rng.integers(0, [height - h, width - w], endpoint=True)
        return element | {"image": resize(image[top : top + h, left : left + w], self.size)}
    return element | {"image": resize(central_square(image), self.size)}


@dataclasses.dataclass(frozen=True)
class CentralCrop(grain.transforms.Map):
  """The central square, 7/8 of the shorter side, resized: what ImageNet is evaluated on."""

  size: int

  def map(self, element):
    return element | {"image": resize(central_square(element["image"], 7 / 8), self.size)}


@dataclasses.dataclass(frozen=True)
class Mixup(grain.transforms.RandomMap):
  """Mixes a batch with a permutation of itself: images, and labels as class probabilities.

  Zhang et al. 2018 (arXiv 1710.09412): one ``weight ~ Beta(alpha, alpha)`` a batch. Mixed bytes are
  rounded, so that normalising comes after it for all images; labels become BxK float32.
  """

  alpha: float
  classes: int

  def random_map(self, element, rng):
    weight = np.float32(rng.beta(self.alpha, self.alpha))
    order = rng.permutation(len(element["label"]))
    mix = lambda x: weight * x + (1 - weight) * x[order]
    images, labels_BxK = element["image"], np.eye(self.classes, dtype=np.float32)[element["label"]]
    mixed = mix(images.astype(np.float32))
    if np.issubdtype(images.dtype, np.integer):
      mixed = np.rint(mixed)
    return element | {"image": mixed.astype(images.dtype), "label": mix(labels_BxK)}


def of_batches(data: Data) -> list[grain.transforms.RandomMap]:
  """The transforms of ``data`` that map batches, in their order."""
  chosen = data.augment
  transforms = (
    (chosen.crop, RandomCrop(chosen.crop)),
    (chosen.flip, RandomFlip()),
    (chosen.cutout, Cutout(chosen.cutout)),
    (chosen.mixup, Mixup(chosen.mixup, data.set.classes)),
  )
  return [transform for on, transform in transforms if on]


def central_square(image: np.ndarray, share: float = 1.0) -> np.ndarray:
  height, width = image.shape[:2]
  side = max(1, round(share * min(height, width)))
  top, left = (height - side) // 2, (width - side) // 2
  return image[top : top + side, left : left + side]


def resize(image: np.ndarray, size: int) -> np.ndarray:
  channels = image.shape[-1]
  pixels = Image.fromarray(image[..., 0] if channels == 1 else image)
  resized = pixels.resize((size, size), Image.Resampling.BICUBIC)
  return np.asarray(resized).reshape(size, size, channels)
