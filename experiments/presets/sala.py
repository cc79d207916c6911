"""SALA's images (doi 10.1109/TPAMI.2024.3444002): settings of the public code."""

from experiments.config import Opt
from experiments.methods import Sala, Sgd
from experiments.models.shapes import RESNET18
from experiments.presets.images import cifar

# Not stated: augmentation.
_OPT = Opt(
  method=Sala(sync_period=2, slow_step_size=0.5, rho=0.2),
  base=Sgd(momentum=0.9, nesterov=True),
  learning_rate=0.05,
  weight_decay=5e-4,
)

CONFIGS = (cifar("sala-cifar100-resnet18", 100, RESNET18, _OPT),)
