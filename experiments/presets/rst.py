"""RST's and G-RST's images (arXiv 2203.09962): settings of the public code."""

from experiments.config import Config, Opt
from experiments.methods import Rst, Sgd
from experiments.models.shapes import RESNET18, WRN28
from experiments.presets.images import cifar

# Not stated: rho, momentum, augmentation, and which ResNet.
_OPT = Opt(
  method=Rst(rho=0.05, probability=0.5),
  base=Sgd(momentum=0.9),
  learning_rate=0.1,
  weight_decay=1e-3,
  clip=5.0,
)


def _cifar(classes: int, net: str, model) -> Config:
  return cifar(f"rst-cifar{classes}-{net}", classes, model, _OPT, batch_size=256)


CONFIGS = (
  _cifar(10, "resnet18", RESNET18),
  _cifar(100, "resnet18", RESNET18),
  _cifar(10, "wrn28", WRN28),
  _cifar(100, "wrn28", WRN28),
)
