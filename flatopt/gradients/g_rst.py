"""Generalised RST: the coin's probability sets the cost, the degree sets the sharpness."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments
from flatopt._typing import AxisName, ScalarOrSchedule
from flatopt.gradients.rst import coin_toss


class GRstState(NamedTuple):
  """Counts of steps and of those with X = 1, the last probability, the inner state."""

  count: jax.Array
  sharpness_steps: jax.Array
  probability: jax.Array
  inner: optax.OptState

  method = "g_rst"
  extra_gradients = 0

  def metrics(self):
    return {
      "count": self.count,
      "sharpness_steps": self.sharpness_steps,
      "probability": self.probability,
    }


def g_rst(
  inner: optax.GradientTransformation,
  probability: ScalarOrSchedule = 0.5,
  *,
  degree: ScalarOrSchedule = 1.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
  """RST with the weight of its sharpness term made independent of the coin.

      rst with mixing(t) = degree(t) / probability(t), 0 where the probability is 0

  Since E[X_t * mixing] = degree, the sharpness term has in expectation ``degree`` times
  SAM's weight, whatever the probability: with degree 1, SAM's regularisation at RST's
  cost, with more variance. Prefer it to ``rst`` at low probabilities. Cost:
  ``probability`` extra gradients a step with ``inner = sam()``.

  Args:
    inner: a transformation that looks at the loss elsewhere: ``sam``, ``asam``, ...
    probability: of a sharpness-aware step, in [0, 1]; a number or a schedule.
    degree: expected weight of the sharpness term in units of SAM's, >= 0.
    key: int or JAX key; toss t uses ``fold_in(key, t)``.
    axis_name: as in ``rst``.

  Returns:
    A transformation whose ``update`` hands all extra arguments to ``inner``.

  State:
    As ``rst``'s.

  Raises:
    ValueError, TypeError: a bad argument or ``params=None``.

  Source:
    Zhao, Zhang, Hu 2022, arXiv 2203.09962. The paper's own printed form of G-RST could
    not be read; this one is derived from E[X_t * mixing] = degree.

  Example:
    >>> import optax, flatopt
    >>> optimizer = optax.chain(flatopt.g_rst(flatopt.sam(), probability=0.25), optax.sgd(0.1))
  """
  _arguments.check_number("g_rst", "degree", degree, low=0)

  def mixing(step):
    dtype = jnp.result_type(float)  # of the ratio, whatever the two are
    p = jnp.asarray(_arguments.value_at(probability, step), dtype)
    d = jnp.asarray(_arguments.value_at(degree, step), dtype)
    return jnp.where(p > 0, d / jnp.where(p > 0, p, 1), 0)

  return coin_toss("g_rst", GRstState, inner, probability, mixing, key, axis_name)
