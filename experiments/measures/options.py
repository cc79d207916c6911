"""Checks that the measures' options share."""

import math

from experiments.config import Refusal


def check_at_least(options: object, least: dict[str, int]) -> None:
  for name, low in least.items():
    if getattr(options, name) < low:
      raise Refusal(f"{name} must be at least {low}; got {getattr(options, name)}")


def check_seed(seed: int) -> None:
  if not 0 <= seed < 2**32:  # jax.random.key would take the remainder
    raise Refusal(f"seed must be in [0, 2**32); got {seed}")


def check_positive(name: str, value: float) -> None:
  if not (math.isfinite(value) and value > 0):
    raise Refusal(f"{name} must be > 0; got {value}")
