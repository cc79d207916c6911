"""Randomised sharpness-aware training: SAM's gradient on randomly chosen steps only (RST, G-RST)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._typing import AxisName, ScalarOrSchedule


class RstState(NamedTuple):
  """Counts of all steps and of the steps with X = 1, the last probability, ``inner``'s state."""

  count: jax.Array
  sharpness_steps: jax.Array
  probability: jax.Array
  inner: optax.OptState

  method = "rst"
  extra_gradients = 0  # the state of ``inner`` counts them
  metrics = _method.reported("count", "sharpness_steps", "probability")


class GRstState(RstState):
  """As that of ``rst``."""

  method = "g_rst"


def rst(
  inner: optax.GradientTransformation,
  probability: ScalarOrSchedule = 0.5,
  *,
  mixing: ScalarOrSchedule = 1.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
  """Takes the sharpness-aware gradient on randomly chosen steps, and the plain gradient on others.

      X_t ~ Bernoulli(probability(t))          the same X_t on every device
      output: g                                      if X_t = 0
              (1 - mixing) * g + mixing * inner(g)   if X_t = 1

  Prefer it to ``sam`` if you cannot afford two gradients on every step. On steps with X = 0 the
  second gradient is not computed (``lax.cond``). There are two exceptions: ``jax.vmap`` turns
  ``cond`` into ``select``, which computes both branches; and on CPUs the gradient of a convolution
  is about 14 times slower inside ``cond``, so there RST is slower than SAM for a CNN. Cost:
  ``probability`` extra gradients per step with ``inner = sam()``.

  Args:
    inner: a method that takes a gradient at other params: ``sam``, ``asam``, ...
    probability: probability of X = 1, in [0, 1]; a number, a scalar array or a schedule. The
      schedules of the paper are optax's ``constant_schedule``, ``piecewise_constant_schedule``,
      ``linear_schedule`` and ``cosine_decay_schedule``, and ``flatopt.schedules.rising_cosine``.
      With probability 0 and 1, X is always 0 and always 1, so ``flatopt.schedules.from_step`` and
      ``every`` choose exact steps.
    mixing: weight of the sharpness-aware gradient, any finite number. 1 is the method of the
      paper. 0 and 1 select ``g`` and ``inner(g)`` exactly.
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
    Zhao, Zhang, Hu 2022, arXiv 2203.09962, algorithm 1. Clip after ``rst``, as the published
    code does: it clips the mixed gradient.

  Example:
    >>> import jax, jax.numpy as jnp, optax, flatopt
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**4))
    >>> optimizer = optax.chain(flatopt.rst(flatopt.sam(0.1), probability=0.5), optax.sgd(0.01))
    >>> w = jnp.array([1.0])
    >>> state = optimizer.init(w)
    >>> for _ in range(8):
    ...   updates, state = optimizer.update(grad_fn(w), state, w, grad_fn=grad_fn)
    ...   w = optax.apply_updates(w, updates)
    >>> int(flatopt.extra_gradient_evaluations(state)) < 8
    True
  """
  _arguments.check_number("rst", "mixing", mixing)
  return _mix_at_random(RstState, inner, probability, mixing, key, axis_name)


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
    degree: expected weight of ``inner(g) - g``, >= 0; 1 is the weight that SAM gives it.
    inner, probability, key, axis_name: as in ``rst``.

  Returns:
    A transformation like that of ``rst``.

  State:
    As that of ``rst``: scalars, and the state of ``inner``.

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

  return _mix_at_random(GRstState, inner, probability, mixing, key, axis_name)


def _mix_at_random(state_type, inner, probability, mixing, key, axis_name):
  """The transformation of ``rst`` and of ``g_rst``, which differ in ``mixing`` only."""
  method = state_type.method
  inner = _arguments.as_transformation(method, "inner", inner)
  _arguments.check_number(method, "probability", probability, low=0, high=1)
  _arguments.check_key(method, key)
  _arguments.check_axes(method, axis_name)

  def init(params):
    return state_type(
      count=jnp.zeros((), jnp.int32),
      sharpness_steps=jnp.zeros((), jnp.int32),
      probability=jnp.zeros((), jnp.float32),
      inner=_method.init_inner(method, inner, params),
    )

  def update(updates, state, params, step, extra_args):
    p = jnp.asarray(_arguments.value_at(probability, step), jnp.float32)
    m = _arguments.value_at(mixing, step)
    draw_key = _arguments.draw_key(method, key, state.count)
    draw = jax.random.uniform(draw_key, dtype=jnp.float32)
    is_sharp = draw < p  # X_t = 1
    updates = _tree.cast_like(updates, params)

    def mixed_gradient():
      # Schedules of ``inner`` read the step, because its own count lags behind.
      inner_args = extra_args | {"step": step}
      sharp, inner_state = inner.update(updates, state.inner, params, **inner_args)
      mixed = _tree.map_wide(_mix, (m,), updates, sharp)
      return _devices.varying(mixed, axis_name), inner_state

    output, inner_state = _method.cond(is_sharp, mixed_gradient, lambda: (updates, state.inner))
    return _devices.mean(output, axis_name), state._replace(
      sharpness_steps=state.sharpness_steps + is_sharp.astype(jnp.int32),
      probability=_devices.varying_like(p, state.probability),
      inner=inner_state,
    )

  return _method.transformation(state_type, init, update, place="before", axis_name=axis_name)


def _mix(m, g, sharp):
  # Exact at 0 and 1: a NaN in the gradient that is not selected must not reach the output.
  return jnp.where(m == 1, sharp, jnp.where(m == 0, g, (1 - m) * g + m * sharp))
