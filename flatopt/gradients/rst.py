"""Randomised sharpness-aware training: a coin between the base gradient and SAM's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _tree
from flatopt._typing import AxisName, ScalarOrSchedule


class RstState(NamedTuple):
  """Counts of steps and of those with X = 1, the last probability, the inner state."""

  count: jax.Array
  sharpness_steps: jax.Array
  probability: jax.Array
  inner: optax.OptState

  method = "rst"
  extra_gradients = 0

  def metrics(self):
    return {
      "count": self.count,
      "sharpness_steps": self.sharpness_steps,
      "probability": self.probability,
    }


def rst(
  inner: optax.GradientTransformation,
  probability: ScalarOrSchedule = 0.5,
  *,
  mixing: ScalarOrSchedule = 1.0,
  key: int | jax.Array = 0,
  axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
  """Tosses a coin each step between the gradient and a sharpness-aware one.

      X_t ~ Bernoulli(probability(t)), the same on every device
      output: g                                     where X_t = 0
              (1 - mixing) * g + mixing * inner(g)  where X_t = 1

  Keeps much of SAM's quality at ``probability`` times its extra cost. Where X = 0 the
  second gradient is really not computed (``lax.cond``), except under ``jax.vmap``,
  which turns ``cond`` into ``select`` and pays for both sides. On CPUs a convolution's
  gradient is about 14 times slower inside ``cond``, so RST on a CNN is no bargain
  there. Cost: ``probability`` extra gradients a step with ``inner = sam()``.

  Args:
    inner: a transformation that looks at the loss elsewhere: ``sam``, ``asam``, ...
    probability: of X = 1, in [0, 1]. The paper's families are optax's
      ``constant_schedule``, ``piecewise_constant_schedule``, ``linear_schedule`` and
      ``cosine_decay_schedule``, and ``flatopt.schedules.rising_cosine``. 0 and 1 are exact:
      ``flatopt.schedules.from_step`` and ``every`` say which steps pay.
    mixing: weight of the sharpness-aware gradient, any finite number; 1 is RST, and
      0 and 1 select exactly.
    key: int or JAX key; toss t uses ``fold_in(key, t)``.
    axis_name: mapped axis under ``pmap`` or ``shard_map``: ``inner`` gets each device's
      own gradient, and the output is averaged.

  Returns:
    A transformation whose ``update`` hands all extra arguments to ``inner``, and
    ``step``, the count of all tosses, for its schedules to read.

  State:
    count, sharpness_steps: int32, shape (). probability: float32, shape ().
    inner: the state of ``inner``, which advances on X = 1 only.

  Raises:
    ValueError, TypeError: a bad argument or ``params=None``.

  Source:
    Zhao, Zhang, Hu 2022, arXiv 2203.09962, algorithm 1. The output is one gradient, so
    clipping belongs behind it, as in the published code.

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
  return coin_toss("rst", RstState, inner, probability, mixing, key, axis_name)


def coin_toss(method, state_type, inner, probability, mixing, key, axis_name):
  """RST under the name of ``method``, whose state is a ``state_type``."""
  _arguments.check_transformation(method, "inner", inner)
  _arguments.check_number(method, "probability", probability, low=0, high=1)
  _arguments.check_key(method, key)
  _arguments.check_axis(method, axis_name)
  inner = optax.with_extra_args_support(inner)

  def init(params):
    return state_type(
      count=jnp.zeros((), jnp.int32),
      sharpness_steps=jnp.zeros((), jnp.int32),
      probability=jnp.zeros((), jnp.float32),
      inner=inner.init(params),
    )

  def update(updates, state, params, step, extra_args):
    p = jnp.asarray(_arguments.value_at(probability, step), jnp.float32)
    m = _arguments.value_at(mixing, step)
    is_sharp = jax.random.uniform(_arguments.draw_key(key, state.count), dtype=jnp.float32) < p
    updates = _tree.cast_like(updates, params)

    def mix_in():
      sharp, inner_state = inner.update(
        updates, state.inner, params, **_method.for_inside(extra_args, step, axis_name)
      )
      mixed = _tree.map_wide(_mix, (m,), updates, sharp)
      return _devices.varying(mixed, axis_name), inner_state

    output, inner_state = _method.cond(is_sharp, mix_in, lambda: (updates, state.inner))
    return _devices.mean(output, axis_name), state_type(
      count=_tree.increment(state.count),
      sharpness_steps=state.sharpness_steps + is_sharp.astype(jnp.int32),
      probability=p,
      inner=inner_state,
    )

  return _method.transformation(
    method, state_type, init, update, place="before", axis_name=axis_name
  )


def _mix(m, g, sharp):
  return jnp.where(m == 1, sharp, jnp.where(m == 0, g, (1 - m) * g + m * sharp))
