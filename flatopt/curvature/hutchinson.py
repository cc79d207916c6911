"""Hutchinson's estimator of the diagonal of the Hessian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _method, _results, _tree
from flatopt._typing import Axes, AxisName, Params, ShardAxes
from flatopt.sharpness.operators import HESSIAN_PRODUCTS, check_mode, explained

_REMEDY = 'pass curvature=hutchinson(mode="reverse-reverse") to ire, or mode= to hutchinson'


class HutchinsonState(NamedTuple):
  """The number of estimates so far, and their cost: 2 per Hessian-vector product."""

  count: jax.Array
  extra_gradients: jax.Array

  method = "hutchinson"
  metrics = _method.reported("count")


def hutchinson(
  num_samples: int = 1,
  *,
  key: int | jax.Array = 0,
  mode: str = "forward-reverse",
  axis_name: AxisName = None,
  shard_axes: ShardAxes = None,
) -> optax.GradientTransformationExtraArgs:
  """Estimates the diagonal of the Hessian from Hessian-vector products with random vectors.

      v: independent random entries, +1 or -1
      H v: the derivative of grad_fn at params along v
      output: the mean over num_samples draws of v * (H v)

  It is unbiased for every loss. Its variance comes from the off-diagonal entries of the Hessian.
  If you can sample labels, ``gauss_newton_bartlett`` is cheaper and never negative. Cost: 2
  gradients per sample, and ``extra_gradient_evaluations`` counts them so.

  Args:
    num_samples: number of random vectors, >= 1.
    key: int or JAX key; estimate number t uses ``fold_in(key, t)``.
    mode: "forward-reverse" (``jax.jvp`` of the gradient), or "reverse-reverse" (``jax.vjp``) for
      models whose custom gradients have no forward mode.
    axis_name: mapped axis under ``pmap`` or ``shard_map``; the estimates are averaged over it. All
      devices draw the same vectors.
    shard_axes: as in ``sam``; the vectors of shards are independent. ``ire`` passes its own.

  Returns:
    A transformation whose ``update`` needs ``params`` and ``grad_fn(params) -> grads``. It returns
    the estimate, a pytree like params, and does not read ``updates``. It also works as the
    ``hessian_diagonal_fn`` of ``optax.contrib.sophia``.

  State:
    count, extra_gradients: int32, shape ().

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type, or missing.

  Source:
    Bekas, Kokiopoulou, Saad 2007, doi 10.1016/j.apnum.2007.01.003, equation 2 with random signs.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import curvature
    >>> estimator = curvature.hutchinson()
    >>> w = jnp.array([1.0, 2.0])
    >>> grad_fn = jax.grad(lambda w: jnp.sum(w**3))
    >>> diagonal, _ = estimator.update(w, estimator.init(w), w, grad_fn=grad_fn)
    >>> diagonal.tolist()
    [6.0, 12.0]
  """
  _arguments.check_integer("hutchinson", "num_samples", num_samples, minimum=1)
  _arguments.check_key("hutchinson", key)
  _arguments.check_axes("hutchinson", axis_name, shard_axes)
  check_mode("hutchinson", mode)

  def init(params):
    return HutchinsonState(count=jnp.zeros((), jnp.int32), extra_gradients=jnp.zeros((), jnp.int32))

  def update(updates, state, params, step, extra_args):
    grad_fn = _method.closure("hutchinson", "grad_fn", extra_args)
    data_axis = axis_name or extra_args.get("axis_name")
    shards = extra_args.get("shard_axes") if shard_axes is None else shard_axes
    axes = _devices.leaf_axes("hutchinson", params, data_axis, shards)
    params = _devices.varying(jax.tree.map(jnp.asarray, params), axis_name)
    draw_key = _arguments.draw_key("hutchinson", key, state.count)
    sample_keys = jax.random.split(draw_key, num_samples)

    def sample(sample_key):
      signs = _signs(sample_key, params, axes)
      v = _devices.varying_like(_tree.cast_like(signs, params), params)
      with explained("hutchinson", _REMEDY):
        hv = HESSIAN_PRODUCTS[mode](grad_fn, params, v)
      _results.check_gradients("hutchinson", "grad_fn", hv, params)
      wide = lambda s, x: s.astype(_tree.wide_dtype(x)) * x.astype(_tree.wide_dtype(x))
      return jax.tree.map(wide, signs, hv)

    def add_sample(total, sample_key):
      return optax.tree.add(total, sample(sample_key)), None

    total = sample(sample_keys[0])
    if num_samples > 1:
      total, _ = jax.lax.scan(add_sample, total, sample_keys[1:])
    mean = jax.tree.map(lambda x: x / num_samples, total)
    extra_gradients = state.extra_gradients + 2 * num_samples
    return _devices.mean(mean, axis_name), state._replace(extra_gradients=extra_gradients)

  return _method.transformation(HutchinsonState, init, update, place="curvature")


def _signs(key: jax.Array, params: Params, axes: Axes) -> Params:
  """Draws random signs (int8), a pytree like params.

  All devices draw the same signs. One more sign per shard makes a leaf's shards uncorrelated.
  """
  leaves, structure = jax.tree.flatten(
    optax.tree.random_like(key, params, jax.random.rademacher, dtype=jnp.int8)
  )
  sign_of_shard = lambda names: jax.random.rademacher(
    jax.random.fold_in(key, jax.lax.axis_index(names)), (), jnp.int8
  )
  is_split = lambda names: names and jax.lax.axis_size(names) > 1
  return jax.tree.unflatten(
    structure,
    [x * sign_of_shard(n) if is_split(n) else x for x, n in zip(leaves, axes, strict=True)],
  )
