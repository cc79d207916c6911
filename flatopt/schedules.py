"""Schedules that optax does not have, and the cost of a schedule of probabilities."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from flatopt import _arguments
from flatopt._typing import ScalarOrSchedule


def rising_cosine(num_steps: int, peak: float = 1.0) -> Callable[[jax.typing.ArrayLike], jax.Array]:
  """A schedule that rises along half a cosine, the mirror image of ``optax.cosine_decay_schedule``.

      value(t) = peak * (1 - cos(pi * min(t, num_steps) / num_steps)) / 2

  As the probability of ``rst``, it spends most extra gradients on late steps.

  Args:
    num_steps: number of steps from 0 to the peak, >= 1. Afterwards the value stays at the peak.
    peak: final value, any finite number.

  Returns:
    A schedule ``count -> value``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Source:
    Zhao, Zhang, Hu 2022, arXiv 2203.09962, one of its families of schedules.

  Example:
    >>> import flatopt
    >>> schedule = flatopt.schedules.rising_cosine(100)
    >>> [round(float(schedule(t)), 3) for t in (0, 50, 100)]
    [0.0, 0.5, 1.0]
  """
  _arguments.check_integer("rising_cosine", "num_steps", num_steps, minimum=1)
  _arguments.check_number("rising_cosine", "peak", peak)

  def schedule(count):
    progress = jnp.clip(jnp.asarray(count) / num_steps, 0, 1)
    return peak * (1 - jnp.cos(jnp.pi * progress)) / 2

  return schedule


def from_step(start: int) -> Callable[[jax.typing.ArrayLike], jax.Array]:
  """A schedule that is 0 before step ``start`` and 1 from then on.

      value(t) = 1 if t >= start, else 0

  As the probability of ``rst``, it spends the extra gradients on the last part of training only.

  Args:
    start: the first step with value 1, >= 0.

  Returns:
    A schedule ``count -> value``. With it, ``rst`` is sharpness-aware on the steps with value 1.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Source:
    Zhou, Wang, Mao, Li, Yan 2024, arXiv 2410.10373: SAM in the last epochs only.

  Example:
    >>> import flatopt
    >>> schedule = flatopt.schedules.from_step(3)
    >>> [float(schedule(t)) for t in range(5)]
    [0.0, 0.0, 0.0, 1.0, 1.0]
  """
  _arguments.check_integer("from_step", "start", start, minimum=0)
  return lambda count: jnp.where(jnp.asarray(count) >= start, 1.0, 0.0)


def every(interval: int) -> Callable[[jax.typing.ArrayLike], jax.Array]:
  """A schedule that is 1 on every ``interval``-th step, beginning with step 0, and 0 in between.

      value(t) = 1 if t % interval == 0, else 0

  As the probability of ``rst``, it spends the extra gradients at equal distances. Unlike
  ``looksam``, this keeps no copy of the params, and the steps in between use the plain gradient.

  Args:
    interval: number of steps from one value of 1 to the next, >= 1.

  Returns:
    A schedule ``count -> value``. With it, ``rst`` is sharpness-aware on the steps with value 1.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Example:
    >>> import flatopt
    >>> schedule = flatopt.schedules.every(2)
    >>> [float(schedule(t)) for t in range(5)]
    [1.0, 0.0, 1.0, 0.0, 1.0]
  """
  _arguments.check_integer("every", "interval", interval, minimum=1)
  return lambda count: jnp.where(jnp.asarray(count) % interval == 0, 1.0, 0.0)


def expected_gradient_evaluations(probability: ScalarOrSchedule, num_steps: int) -> float:
  """Returns the expected number of gradients in ``num_steps`` steps of ``rst`` around ``sam``.

      sum of 1 + probability(t) over t = 0, ..., num_steps - 1

  Args:
    probability: probability of an extra gradient, in [0, 1]; a number or a traceable schedule.
    num_steps: number of steps, >= 0.

  Returns:
    The expected number of gradients, with the caller's one per step.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Example:
    >>> import flatopt
    >>> flatopt.expected_gradient_evaluations(0.5, num_steps=100)
    150.0
  """
  name = "expected_gradient_evaluations"
  _arguments.check_number(name, "probability", probability, low=0, high=1)
  _arguments.check_integer(name, "num_steps", num_steps, minimum=0)
  if not callable(probability):
    return num_steps * (1 + float(np.asarray(probability)))
  values = jax.vmap(lambda t: jnp.asarray(probability(t), jnp.result_type(float)))(
    jnp.arange(num_steps)
  )
  return num_steps + float(np.asarray(values, np.float64).sum())
