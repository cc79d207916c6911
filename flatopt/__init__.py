"""Flat-minima optimizers for JAX, as optax gradient transformations."""

import importlib
from typing import TYPE_CHECKING

from flatopt import closures as closures
from flatopt import curvature as curvature
from flatopt import schedules as schedules
from flatopt import sharpness as sharpness
from flatopt._version import __version__ as __version__
from flatopt.frozen import trainable as trainable
from flatopt.gradients import ae_sam as ae_sam
from flatopt.gradients import asam as asam
from flatopt.gradients import friendly_sam as friendly_sam
from flatopt.gradients import g_rst as g_rst
from flatopt.gradients import gsam as gsam
from flatopt.gradients import looksam as looksam
from flatopt.gradients import rst as rst
from flatopt.gradients import sam as sam
from flatopt.implicit_regularisation import ire as ire
from flatopt.introspection import eval_params as eval_params
from flatopt.introspection import extra_gradient_evaluations as extra_gradient_evaluations
from flatopt.introspection import metrics as metrics
from flatopt.order import check_optimizer as check_optimizer
from flatopt.schedules import expected_gradient_evaluations as expected_gradient_evaluations
from flatopt.selection import kth_smallest as kth_smallest
from flatopt.wrappers import lookahead as lookahead
from flatopt.wrappers import lookbehind as lookbehind
from flatopt.wrappers import momentum_sam as momentum_sam
from flatopt.wrappers import sala as sala
from flatopt.wrappers import weight_average as weight_average

if not TYPE_CHECKING:  # for type checkers, every attribute would exist

  def __getattr__(name: str):
    """Imports the modules that need another library when they are used."""
    if name in ("equinox", "linen", "nnx", "plots"):
      return importlib.import_module(f"flatopt.{name}")
    raise AttributeError(f"module 'flatopt' has no attribute {name!r}")
