"""What optax's schedules lack, and the cost of a schedule of probabilities."""

import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from flatopt import _arguments
from flatopt._typing import ScalarOrSchedule


def rising_cosine(num_steps: int, peak: float = 1.0) -> Callable[[jax.typing.ArrayLike], jax.Array]:
  """Rises along half a cosine: the mirror image of ``optax.cosine_decay_schedule``.

      value(t) = peak * (1 - cos(pi * min(t, num_steps) / num_steps)) / 2

  As RST's probability it spends the extra gradients late, where flatness is decided.

  Args:
    num_steps: steps from 0 to the peak, >= 1; the value stays there afterwards.
    peak: final value, in the unit of what is scheduled; any finite number.

  Returns:
    A schedule ``count -> value``.

  Raises:
    ValueError, TypeError: a bad argument.

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
  """One from step ``start`` on, zero before.

      value(t) = 1 where t >= start, else 0

  As RST's probability it spends the extra gradients on the last part of training alone.

  Args:
    start: the first step whose value is 1, >= 0.

  Returns:
    A schedule ``count -> value``; RST draws heads on exactly the steps whose value is 1.

  Raises:
    ValueError, TypeError: a bad argument.

  Source:
    Zhou, Wang, Mao, Li, Yan 2024, arXiv 2410.10373: SAM in the last epochs alone.

  Example:
    >>> import flatopt
    >>> schedule = flatopt.schedules.from_step(3)
    >>> [float(schedule(t)) for t in range(5)]
    [0.0, 0.0, 0.0, 1.0, 1.0]
  """
  _arguments.check_integer("from_step", "start", start, minimum=0)
  return lambda count: jnp.where(jnp.asarray(count) >= start, 1.0, 0.0)


def every(interval: int) -> Callable[[jax.typing.ArrayLike], jax.Array]:
  """One at every ``interval``-th step, from step 0, zero in between.

      value(t) = 1 where t % interval == 0, else 0

  As RST's probability it spends the extra gradients at equal distances. Unlike ``looksam``
  it keeps no state, and the steps in between are the base optimizer's.

  Args:
    interval: steps from one value of 1 to the next, >= 1.

  Returns:
    A schedule ``count -> value``; RST draws heads on exactly the steps whose value is 1.

  Raises:
    ValueError, TypeError: a bad argument.

  Example:
    >>> import flatopt
    >>> schedule = flatopt.schedules.every(2)
    >>> [float(schedule(t)) for t in range(5)]
    [1.0, 0.0, 1.0, 0.0, 1.0]
  """
  _arguments.check_integer("every", "interval", interval, minimum=1)
  return lambda count: jnp.where(jnp.asarray(count) % interval == 0, 1.0, 0.0)


def expected_gradient_evaluations(probability: ScalarOrSchedule, num_steps: int) -> float:
  """Gradients that ``num_steps`` steps of RST are expected to pay: ``1 + p(t)``, summed.

  Args:
    probability: of an extra gradient, in [0, 1]; a number or a traceable schedule.
    num_steps: steps, >= 0.

  Returns:
    The expected number, the caller's own gradients included.

  Raises:
    ValueError, TypeError: a bad argument.

  Example:
    >>> import flatopt
    >>> flatopt.expected_gradient_evaluations(0.5, num_steps=100)
    150.0
  """
  name = "expected_gradient_evaluations"
  _arguments.check_number(name, "probability", probability, low=0, high=1)
  _arguments.check_integer(name, "num_steps", num_steps, minimum=0)
  if isinstance(probability, numbers.Real):
    return num_steps * (1 + float(probability))
  if not callable(probability):
    return num_steps * (1 + float(np.asarray(probability)))
  values = jax.vmap(lambda t: jnp.asarray(probability(t), jnp.result_type(float)))(
    jnp.arange(num_steps)
  )
  return num_steps + float(np.asarray(values, np.float64).sum())
