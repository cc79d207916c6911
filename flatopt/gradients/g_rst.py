"""Generalised RST (G-RST): ``probability`` sets the cost, ``degree`` the strength of SAM."""

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments
from flatopt._typing import AxisName, ScalarOrSchedule
from flatopt.gradients.rst import RstState, mix_at_random


class GRstState(RstState):
  """As that of ``rst``."""

  method = "g_rst"


def g_rst(
  inner: optax.GradientTransformation,
  probability: ScalarOrSchedule = 0.5,
  *,
  degree: ScalarOrSchedule = 1.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
  """RST in which a rarer sharpness-aware gradient has a larger weight.

      X_t ~ Bernoulli(probability(t))          the same X_t on every device
      mixing = degree(t) / probability(t)      0 if probability(t) = 0
      output: g                                      if X_t = 0
              (1 - mixing) * g + mixing * inner(g)   if X_t = 1

  The expected output is ``g + degree * (inner(g) - g)``, because E[X_t * mixing] = degree. So
  with ``degree = 1`` the expected gradient is that of ``inner``, whatever the probability. The
  variance grows as the probability falls. Prefer it to ``rst`` if the probability is low.
  Cost: ``probability`` extra gradients per step with ``inner = sam()``.

  Args:
    inner: a method that takes a gradient at other params: ``sam``, ``asam``, ...
    probability: probability of X = 1, in [0, 1]; a number, a scalar array or a schedule.
    degree: expected weight of ``inner(g) - g``, >= 0; 1 is the weight that SAM gives it.
    key: int or JAX key; the draw of step t uses ``fold_in(key, t)``.
    axis_name: mapped axis under ``pmap`` or ``shard_map``. ``inner`` gets each device's own
      gradient, and the output is averaged over the axis.

  Returns:
    A transformation whose ``update`` needs ``params``. It passes all extra arguments on to
    ``inner``, and also ``step``, the count of all steps, which the schedules of ``inner`` read.

  State:
    count, sharpness_steps: int32, shape (). probability: float32, shape (), of the last step.
    inner: the state of ``inner``, which changes on steps with X = 1 only.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Zhao, Zhang, Hu 2022, arXiv 2203.09962. We could not read the form of G-RST that the paper
    prints; this one is derived from E[X_t * mixing] = degree.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.g_rst(flatopt.sam(), probability=0.25), optax.sgd(0.1))
  """
  _arguments.check_number("g_rst", "degree", degree, low=0)

  def mixing(step):
    # The two may have different dtypes, which strict promotion would not divide.
    dtype = jnp.result_type(float)
    p = jnp.asarray(_arguments.value_at(probability, step), dtype)
    d = jnp.asarray(_arguments.value_at(degree, step), dtype)
    return jnp.where(p > 0, d / jnp.where(p > 0, p, 1), 0)

  return mix_at_random(GRstState, inner, probability, mixing, key, axis_name)
