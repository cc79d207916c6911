"""Puts the families' configs into the registry."""

from experiments.presets import (
  demo,
  digits,
  fashion_mnist,
  ire,
  language,
  lookbehind,
  rst,
  sala,
)
from experiments.presets.registry import register_config

for _family in digits, demo, fashion_mnist, ire, rst, sala, lookbehind, language:
  for _config in _family.CONFIGS:
    register_config(_config, getattr(_family, "TUNED", {}).get(_config.name))
