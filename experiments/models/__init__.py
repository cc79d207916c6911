"""Flax Linen models: ``model(inputs, train=...)`` returns float32 logits."""

import dataclasses

from experiments.config import Model
from experiments.models import mixer


@dataclasses.dataclass(frozen=True)
class Mixer(Model):
  patch: int = 7
  width: int = 64
  blocks: int = 2
  module = mixer.Mixer
