"""Flat-minima optimizers for JAX, as optax gradient transformations."""

import importlib
from typing import TYPE_CHECKING

from flatopt import closures, curvature, schedules, sharpness
from flatopt._version import __version__ as __version__
from flatopt.check_optimizer import check_optimizer
from flatopt.finish import finish
from flatopt.gradients import ae_sam, asam, friendly_sam, g_rst, gsam, looksam, rst, sam
from flatopt.implicit_regularisation import ire
from flatopt.kth_smallest import kth_smallest
from flatopt.opt_state import eval_params, extra_gradient_evaluations, metrics
from flatopt.schedules import expected_gradient_evaluations
from flatopt.trainable import trainable
from flatopt.wrappers import lookahead, lookbehind, momentum_sam, sala, weight_average

__all__ = [
  "ae_sam",
  "asam",
  "check_optimizer",
  "closures",
  "curvature",
  "eval_params",
  "expected_gradient_evaluations",
  "extra_gradient_evaluations",
  "finish",
  "friendly_sam",
  "g_rst",
  "gsam",
  "ire",
  "kth_smallest",
  "lookahead",
  "lookbehind",
  "looksam",
  "metrics",
  "momentum_sam",
  "rst",
  "sala",
  "sam",
  "schedules",
  "sharpness",
  "trainable",
  "weight_average",
]
_WITH_ANOTHER_LIBRARY = ["equinox", "linen", "nnx", "plots"]


def __dir__() -> list[str]:
  return sorted([*__all__, *_WITH_ANOTHER_LIBRARY, "__version__"])


if not TYPE_CHECKING:  # for type checkers, every attribute would exist

  def __getattr__(name: str):
    """Imports the modules that need another library when they are used."""
    if name in _WITH_ANOTHER_LIBRARY:
      return importlib.import_module(f"flatopt.{name}")
    raise AttributeError(f"module 'flatopt' has no attribute {name!r}")
