"""Lookbehind: several ascent steps behind each descent, then a step back."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Mask, ScalarOrSchedule


class LookbehindState(NamedTuple):
  """Count of iterations, their cost, the last interpolation, the base state."""

  count: jax.Array
  extra_gradients: jax.Array
  interpolation: jax.Array
  base: optax.OptState

  method = "lookbehind"

  def metrics(self):
    return {
      "count": self.count,
      "extra_gradients": self.extra_gradients,
      "interpolation": self.interpolation,
    }


def lookbehind(
  base_optimizer: optax.GradientTransformation,
  *,
  ascent_steps: int = 5,
  rho: ScalarOrSchedule = 0.05,
  interpolation: ScalarOrSchedule | str | None = None,
  eta: ScalarOrSchedule | None = None,
  scale_mask: Mask | None = None,
  unroll: int | bool = 1,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Ascends ``k = ascent_steps`` times, descending behind each, and goes part of the way.

      p_0 = fast_0 = w
      p_{i+1} = p_i + eps(g(p_i)),  fast_{i+1} = fast_i + base(g(p_{i+1}), fast_i)
      leaf by leaf: w += alpha * (fast_k - w),  alpha = interpolation, by default 1 / k
      "adaptive": alpha = (cos(fast_1 - w, fast_k - w) + 1) / 2

  One ``update`` is all k rounds, on one batch: a round's descent gradient is the next
  round's ascent gradient. Prefer it where weights will be noisy or training goes on to
  new tasks. Cost: k extra gradients an update.

  The k descents are taken along gradients at the ascent points, not at the fast weights, so
  an update goes up to ``alpha * k`` base steps far. With alpha 1 / k it goes no farther than
  one, and holds at every learning rate at which plain SGD does; a larger alpha wants a smaller
  rate, and so does momentum, which gathers k gradients an update.

  The base optimizer's state and its schedules advance k counts an update: give a
  schedule over n updates ``k * n`` counts, e.g. ``optax.cosine_decay_schedule(lr, k * n)``.

  Args:
    base_optimizer: any optax transformation; extra arguments are handed on to it.
    ascent_steps: rounds in one update, >= 1.
    rho: radius of each ascent step, in units of the params' l2 norm, >= 0.
    interpolation: alpha in [0, 1], or "adaptive"; ``None`` means ``1 / ascent_steps``.
    eta: ``None`` perturbs as SAM does; a number >= 0 as ASAM does, with this floor.
    scale_mask: as in ``asam``, where ``eta`` is given.
    unroll: of the ``lax.scan`` over rounds; ``True`` writes them out, which is faster
      for convolutions on CPUs and slower to compile.
    axis_name: mapped axis under ``pmap`` or ``shard_map``; the base optimizer gets
      gradients averaged over it.
    sync_perturbation: ascend along the gradient averaged over ``axis_name`` instead of
      each device's own (m-sharpness, the default).

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count, extra_gradients: int32, shape (). interpolation: float32, shape (), the mean
    of alpha over leaves. base: the base optimizer's state, which is never reset.

  Raises:
    ValueError, TypeError: a bad argument, a missing ``grad_fn`` or ``params``.

  Source:
    Mordido, Malviya, Baratin, Chandar 2023, arXiv 2307.16704, algorithms 1 and 2. The
    published code computes 2k gradients where k + 1 are enough. Its alpha is 0.2, 0.5, 0.8 or
    adaptive, with learning rates tuned for each; the default of 1 / k is flatopt's own.

  Example:
    >>> import optax, flatopt
    >>> optimizer = flatopt.lookbehind(optax.sgd(0.1), ascent_steps=2, rho=0.05)
  """
  _arguments.check_transformation("lookbehind", "base_optimizer", base_optimizer)
  _arguments.check_integer("lookbehind", "ascent_steps", ascent_steps, minimum=1)
  _arguments.check_number("lookbehind", "rho", rho, low=0)
  if interpolation is None:
    interpolation = 1 / ascent_steps
  adaptive = isinstance(interpolation, str)
  if adaptive and interpolation != "adaptive":
    raise ValueError(
      f'lookbehind: interpolation must be "adaptive" or in [0, 1]; got {interpolation!r}'
    )
  if not adaptive:
    _arguments.check_number("lookbehind", "interpolation", interpolation, low=0, high=1)
  if eta is not None:
    _arguments.check_number("lookbehind", "eta", eta, low=0)
  if unroll is not True:
    _arguments.check_integer("lookbehind", "unroll", unroll, minimum=1)
  _arguments.check_axis("lookbehind", axis_name, sync_perturbation)
  base = optax.with_extra_args_support(base_optimizer)

  def init(params):
    return LookbehindState(
      count=jnp.zeros((), jnp.int32),
      extra_gradients=jnp.zeros((), jnp.int32),
      interpolation=jnp.zeros((), jnp.float32),
      base=base.init(params),
    )

  def update(updates, state, params, step, extra_args):
    params = jax.tree.map(jnp.asarray, params)

    def one_round(carry, _):
      ascent, grads, fast, base_state = carry
      grads, ascent, finite = _perturbation.gradient_nearby(
        "lookbehind",
        extra_args["grad_fn"],
        ascent,
        grads,
        _arguments.value_at(rho, step),
        eta=_arguments.value_at(eta, step),
        scale_mask=scale_mask,
        axis_name=axis_name,
        sync_perturbation=sync_perturbation,
      )
      descent = _devices.mean(_perturbation.nan_unless(finite, grads), axis_name)
      base_updates, base_state = base.update(descent, base_state, fast, **extra_args)
      return (ascent, grads, optax.apply_updates(fast, base_updates), base_state), None

    grads = _tree.cast_like(updates, params)
    start = (*_devices.varying((params, grads), axis_name), params, state.base)
    # The first round stands outside the scan, which then need not carry fast_1 along.
    carry, _ = one_round(start, None)
    first = carry[2]
    if ascent_steps > 1:
      carry, _ = jax.lax.scan(one_round, carry, length=ascent_steps - 1, unroll=unroll)
    _, _, fast, base_state = carry
    displacement = optax.tree.sub(fast, params)
    if adaptive:
      leaves, structure = jax.tree.flatten(displacement)
      starts = jax.tree.leaves(optax.tree.sub(first, params))
      axes = _devices.shard_axes(params, axis_name)
      alphas = structure.unflatten(map(_adaptive, starts, leaves, axes))
    else:
      alpha = jnp.asarray(_arguments.value_at(interpolation, step))
      alphas = jax.tree.map(lambda _: alpha, params)
    output = _tree.map_wide(lambda d, a: a * d, (), displacement, alphas)
    means = [jnp.asarray(a, jnp.float32) for a in jax.tree.leaves(alphas)]
    return output, LookbehindState(
      count=_tree.increment(state.count),
      extra_gradients=state.extra_gradients + ascent_steps,
      interpolation=jnp.mean(jnp.stack(means)),
      base=base_state,
    )

  return _method.transformation(
    "lookbehind",
    LookbehindState,
    init,
    update,
    place="around",
    closures=("grad_fn",),
    axis_name=axis_name,
  )


def _adaptive(first: jax.Array, last: jax.Array, names: tuple[str, ...]) -> jax.Array:
  """Alpha of one leaf, which may be sharded over the named axes."""
  dot = functools.partial(_tree.dot, axes=(names,))
  norms = _tree.sqrt(dot(first, first)) * _tree.sqrt(dot(last, last))
  cos = dot(first, last) / jnp.where(norms > 0, norms, 1)
  return (cos + 1) / 2
