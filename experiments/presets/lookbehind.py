"""Lookbehind's images (arXiv 2307.16704): settings of the public code."""

from experiments.config import Opt
from experiments.methods import Lookbehind, Sgd
from experiments.models.shapes import RESNET34, RESNET50
from experiments.presets.images import cifar

# Of 2 to 10 ascent steps the cheapest; not stated: augmentation.
_OPT = Opt(
  method=Lookbehind(ascent_steps=2, rho=0.05),
  base=Sgd(momentum=0.9),
  learning_rate=0.1,
  weight_decay=5e-4,
  schedule="tenths",
)

CONFIGS = (
  cifar("lookbehind-cifar10-resnet34", 10, RESNET34, _OPT),
  cifar("lookbehind-cifar100-resnet50", 100, RESNET50, _OPT),
)
