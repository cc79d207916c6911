"""The models' shapes, as configs hold them; defaults are the models' smallest published form."""

import dataclasses

from experiments import models
from experiments.config import Model
from experiments.models.registry import MODELS


@dataclasses.dataclass(frozen=True)
class Mixer(Model):
  patch: int = 7
  width: int = 64
  blocks: int = 2
  module = models.Mixer


@dataclasses.dataclass(frozen=True)
class ResNet(Model):
  blocks: tuple[int, ...] = (3, 3, 3)  # of each stage: ResNet-20
  width: int = 16
  projection: bool = False
  bottleneck: bool = False
  module = models.ResNet


@dataclasses.dataclass(frozen=True)
class WideResNet(Model):
  depth: int = 28
  widen: int = 10
  dropout: float = 0.0
  module = models.WideResNet


@dataclasses.dataclass(frozen=True)
class VisionTransformer(Model):
  patch: int = 4
  width: int = 192
  layers: int = 12
  heads: int = 3
  dropout: float = 0.0
  module = models.VisionTransformer


@dataclasses.dataclass(frozen=True)
class Llama(Model):
  layers: int = 4
  width: int = 128
  heads: int = 4
  hidden: int = 384
  tied: bool = False
  module = models.Llama


RESNET18, RESNET34, RESNET50, RESNET56 = (
  ResNet(**models.RESNET_SHAPES[layers]) for layers in ("18", "34", "50", "56")
)
WRN28 = WideResNet(28, 10)
VIT_TINY, VIT_SMALL = (VisionTransformer(**models.VIT_SHAPES[size]) for size in ("ti", "s"))
LLAMA = {f"llama-{size.lower()}": Llama(**shape) for size, shape in models.LLAMA_SHAPES.items()}

for _name, _model in {
  "mixer": Mixer(),
  "resnet18": RESNET18,
  "resnet20": ResNet(),
  "resnet34": RESNET34,
  "resnet50": RESNET50,
  "resnet56": RESNET56,
  "wrn28": WRN28,
  "vit-ti": VIT_TINY,
  "vit-s": VIT_SMALL,
  **LLAMA,
}.items():
  MODELS.add(_name, _model)
