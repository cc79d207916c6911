"""Augmentation as Grain transforms: their draws are Grain's, one generator a record.

All but ``Mixup`` map one example {"image": HxWxC, ...} before batching. Images keep their dtype.
"""

import dataclasses

import grain
import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class RandomCrop(grain.transforms.RandomMap):
  """Pads with zeros and cuts the image's own size out at random: 4 is CIFAR's custom."""

  padding: int

  def random_map(self, element, rng):
    image = element["image"]
    padded = np.pad(image, [(self.padding, self.padding)] * 2 + [(0, 0)])
    top, left = rng.integers(0, 2 * self.padding, 2, endpoint=True)
    height, width = image.shape[:2]
    return element | {"image": padded[top : top + height, left : left + width]}


@dataclasses.dataclass(frozen=True)
class RandomFlip(grain.transforms.RandomMap):
  """Mirrors left to right, every second time."""

  def random_map(self, element, rng):
    image = element["image"]
    return element | {"image": image[:, ::-1] if rng.random() < 0.5 else image}


@dataclasses.dataclass(frozen=True)
class Cutout(grain.transforms.RandomMap):
  """Fills a square around a random pixel, cut off at the border (DeVries and Taylor 2017).

  arXiv 1708.04552; its zeros after normalisation are the set's mean here, before it.
  """

  size: int
  fill: int | tuple[int, ...]  # of all channels, or of each

  def random_map(self, element, rng):
    image = element["image"].copy()
    top, left = rng.integers(0, image.shape[:2]) - self.size // 2
    rows = slice(max(top, 0), max(top + self.size, 0))
    image[rows, max(left, 0) : max(left + self.size, 0)] = self.fill
    return element | {"image": image}


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
