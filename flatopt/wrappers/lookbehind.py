"""Lookbehind: several ascent and descent steps on one batch, then a part of the way back."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _perturbation, _tree
from flatopt._typing import AxisName, Mask, ScalarOrSchedule, ShardAxes


class LookbehindState(NamedTuple):
  """The number of calls of ``update``, extra gradients, the last alpha, the base state."""

  count: jax.Array
  extra_gradients: jax.Array
  interpolation: jax.Array
  base: optax.OptState

  method = "lookbehind"
  metrics = _method.reported("count", "extra_gradients", "interpolation")


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
  shard_axes: ShardAxes = None,
  sync_perturbation: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Alternates ascent and descent steps on one batch, and keeps a part of the whole descent.

      k = ascent_steps
      p_0 = fast_0 = w
      for i = 0, ..., k - 1:
        p_{i+1} = p_i + eps(g(p_i))                       g(p): the gradient at p
        fast_{i+1} = fast_i + base(g(p_{i+1}), fast_i)    eps: SAM's perturbation, or ASAM's
      for each leaf:
        w <- w + alpha * (fast_k - w)                     alpha = interpolation
        if interpolation is "adaptive":  alpha = (cos(fast_1 - w, fast_k - w) + 1) / 2

  One call of ``update`` runs all k rounds on one batch. The gradient of a round's descent is also
  the gradient of the next round's ascent, so k + 1 gradients are enough. Prefer it to ``sam`` if
  the weights will be noisy after training (quantisation) or if training continues on new tasks.
  Cost: ``ascent_steps`` extra gradients per update.

  An update can be as long as ``alpha * k`` steps of the base optimizer. With SGD and the default
  alpha, 1 / k, it is the mean of k steps; then, on a quadratic loss, training is stable at every
  learning rate at which SGD alone is. With a larger alpha, or with momentum in the base optimizer
  (it collects k gradients per update), use a smaller learning rate.

  The base optimizer takes k steps per update. So a schedule of the learning rate over n updates
  needs ``k * n`` steps: ``optax.cosine_decay_schedule(learning_rate, k * n)``.

  Args:
    base_optimizer: any optax transformation; it gets the extra arguments of ``update``.
    ascent_steps: number of rounds in one update, >= 1.
    rho: radius of each ascent step, in units of the params' l2 norm, >= 0; a number or a schedule.
    interpolation: alpha, in [0, 1], or "adaptive"; ``None``: ``1 / ascent_steps``.
    eta: ``None``: perturb like ``sam``; a number >= 0: perturb like ``asam`` with this ``eta``.
    scale_mask: as in ``asam``; used only with ``eta``.
    unroll: ``unroll`` of the ``lax.scan`` over the rounds. ``True`` avoids the loop, which is
      faster for convolutions on CPUs and slower to compile.
    axis_name: as in ``sam``; the base optimizer gets the averaged gradients.
    shard_axes, sync_perturbation: as in ``sam``.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``.

  State:
    count, extra_gradients: int32, shape (). interpolation: float32, shape (), the last alpha,
    averaged over the leaves. base: the state of the base optimizer, which is never reset.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Mordido, Malviya, Baratin, Chandar 2023, arXiv 2307.16704, algorithms 1 and 2. Deviations:
    the published code computes 2k gradients, where k + 1 are enough. Its alpha is 0.2, 0.5, 0.8
    or adaptive, with a learning rate tuned for each; the default of 1 / k is flatopt's own.

  Example:
    >>> import optax, flatopt
    >>> optimizer = flatopt.lookbehind(optax.sgd(0.1), ascent_steps=2, rho=0.05)
  """
  base = _arguments.as_transformation("lookbehind", "base_optimizer", base_optimizer)
  _arguments.check_integer("lookbehind", "ascent_steps", ascent_steps, minimum=1)
  if interpolation is None:
    interpolation = 1 / ascent_steps
  adaptive = isinstance(interpolation, str)
  if adaptive and interpolation != "adaptive":
    raise ValueError(
      f'lookbehind: interpolation must be "adaptive" or in [0, 1]; got {interpolation!r}'
    )
  if not adaptive:
    _arguments.check_number("lookbehind", "interpolation", interpolation, low=0, high=1)
  if not isinstance(unroll, bool):
    _arguments.check_integer("lookbehind", "unroll", unroll, minimum=1)
  perturbation = _perturbation.Perturbation(
    "lookbehind", rho, axis_name, shard_axes, sync_perturbation, eta, scale_mask
  )

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
      p, grads, fast, base_state = carry
      grads, p, finite = perturbation.perturbed(p, grads, step, extra_args)
      descent = _devices.mean(_perturbation.nan_unless(finite, grads), axis_name)
      base_updates, base_state = base.update(descent, base_state, fast, **extra_args)
      return (p, grads, optax.apply_updates(fast, base_updates), base_state), None

    grads = _tree.cast_like(updates, params)
    start = (*_devices.varying((params, grads), axis_name), params, state.base)
    # The first round is outside the scan, so that the scan does not have to carry fast_1.
    carry, _ = one_round(start, None)
    fast_1 = carry[2]
    if ascent_steps > 1:
      carry, _ = jax.lax.scan(one_round, carry, length=ascent_steps - 1, unroll=unroll)
    _, _, fast_k, base_state = carry
    displacement = optax.tree.sub(fast_k, params)
    if adaptive:
      last, structure = jax.tree.flatten(displacement)
      first = jax.tree.leaves(optax.tree.sub(fast_1, params))
      alphas = structure.unflatten(map(_adaptive_alpha, first, last, perturbation.axes(params)))
    else:
      alpha = jnp.asarray(_arguments.value_at(interpolation, step))
      alphas = jax.tree.map(lambda _: alpha, params)
    output = _tree.map_wide(lambda d, a: a * d, (), displacement, alphas)
    means = [jnp.asarray(a, jnp.float32) for a in jax.tree.leaves(alphas)]
    return output, state._replace(
      extra_gradients=state.extra_gradients + ascent_steps,
      interpolation=_devices.varying_like(jnp.mean(jnp.stack(means)), state.interpolation),
      base=base_state,
    )

  return _method.transformation(LookbehindState, init, update, place="around", axis_name=axis_name)


def _adaptive_alpha(first: jax.Array, last: jax.Array, names: tuple[str, ...]) -> jax.Array:
  """Returns alpha for one leaf, which may be sharded over the axes ``names``."""
  dot = functools.partial(_tree.dot, axes=(names,))
  norms = _tree.sqrt(dot(first, first)) * _tree.sqrt(dot(last, last))
  cos = dot(first, last) / jnp.where(norms > 0, norms, 1)
  return (cos + 1) / 2
