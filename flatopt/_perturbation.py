"""The perturbation that all sharpness-aware methods share.

l2:               eps(g) = rho * g / ||g||
adaptive (ASAM):  eps(g) = rho * T^2 g / ||T g||,  T = |w| + eta on scaled leaves, 1 elsewhere
"""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _devices, _tree
from flatopt._typing import AxisName, GradFn, Mask, Params

_BIAS = re.compile(r"b\d*|(.*_)?bias(_.*)?")


def perturb(
  params: Params,
  grads: Params,
  rho: Any,
  *,
  eta: Any = None,
  scale_mask: Mask | None = None,
  mask: Mask | None = None,
  axis_name: AxisName = None,
) -> tuple[Params, jax.Array]:
  """``(params + eps(grads), whether grads are finite)``, adaptive where ``eta`` is given.

  Only the leaves of ``mask`` are perturbed and enter the norm; ``None`` means all. A zero
  gradient leaves the params as they are, one that is not finite makes them NaN. The norm is over all shards of the params, wherever
  they are sharded over other axes than ``axis_name``.
  """
  axes = _devices.shard_axes(params, axis_name)
  finite = jnp.array(True)
  if mask is not None:
    finite = jnp.isfinite(_tree.norm(grads, axes))
    grads = jax.tree.map(lambda on, g: jnp.where(on, g, 0), full_mask(mask, params), grads)
  if eta is None:
    scale, scaled = (), grads
  else:
    scale = (adaptive_scale(params, eta, scale_mask),)
    scaled = jax.tree.map(lambda g, t: jnp.asarray(g, t.dtype) * t, grads, *scale)
  norm = _tree.norm(scaled, axes)
  rho = jnp.asarray(rho, norm.dtype)
  # Where rho / norm would overflow, the largest number will do.
  divisor = jnp.maximum(norm, jax.lax.stop_gradient(rho) / jnp.finfo(norm.dtype).max)
  length = jnp.where(norm == 0, 0, rho / jnp.where(norm == 0, 1, divisor))
  length = jnp.where(jnp.isfinite(norm), length, jnp.nan)

  def ascend(length, w, g, *t):
    return w + math.prod(t, start=length * g)

  perturbed = _tree.map_wide(ascend, (length,), params, scaled, *scale)
  return perturbed, finite & jnp.isfinite(norm)


def sharpness_gradient(
  method: str, grad_fn: GradFn, params: Params, grads: Params, rho: Any, **settings: Any
) -> Params:
  """``grad_fn(w + eps(grads))`` per device; the settings are those of ``gradient_nearby``.

  Gradients that are not finite leave as NaN in every entry, so that what stands behind
  (``optax.apply_if_finite``) sees them. To hand them back as they came would keep them in
  memory through the second pass.
  """
  sharp, _, finite = gradient_nearby(method, grad_fn, params, grads, rho, **settings)
  return nan_unless(finite, sharp)


def gradient_nearby(
  method: str,
  grad_fn: GradFn,
  params: Params,
  grads: Params,
  rho: Any,
  *,
  eta: Any = None,
  scale_mask: Mask | None = None,
  mask: Mask | None = None,
  axis_name: AxisName = None,
  sync_perturbation: bool = False,
) -> tuple[Params, Params, jax.Array]:
  """``(grad_fn(w + eps(grads)), w + eps(grads), whether grads are finite)``, per device."""
  source = _devices.mean(grads, axis_name) if sync_perturbation else grads
  perturbed, finite = perturb(
    params, source, rho, eta=eta, scale_mask=scale_mask, mask=mask, axis_name=axis_name
  )
  perturbed = _devices.varying(perturbed, axis_name)
  sharp = grad_fn(perturbed)
  _arguments.check_gradients(method, "grad_fn", sharp, params)
  return _devices.varying(_tree.cast_like(sharp, params), axis_name), perturbed, finite


def nan_unless(finite: jax.Array, tree: Params) -> Params:
  return jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), tree)


def adaptive_scale(params: Params, eta: Any, scale_mask: Mask | None) -> Params:
  """ASAM's ``T``, like params."""
  if scale_mask is None:
    scale_mask = jax.tree_util.tree_map_with_path(lambda path, _: not is_bias(path), params)

  def scale(scaled, w):
    dtype = _tree.wide_dtype(w)
    return jnp.where(scaled, jnp.abs(jnp.asarray(w, dtype)) + jnp.asarray(eta, dtype), 1)

  return jax.tree.map(scale, full_mask(scale_mask, params), params)


def full_mask(mask: Mask, params: Params) -> Params:
  """A mask with a bool for every leaf, from one that may be a callable or a prefix."""
  mask = mask(params) if callable(mask) else mask
  return jax.tree.map(lambda on, subtree: jax.tree.map(lambda _: on, subtree), mask, params)


def is_bias(path: tuple[Any, ...]) -> bool:
  """Whether the last string key of a leaf's path, wrappers aside, is a bias's name."""
  names = [getattr(entry, "key", getattr(entry, "name", None)) for entry in path]
  names = [n for n in names if isinstance(n, str) and n not in ("value", "raw_value")]
  return bool(names) and _BIAS.fullmatch(names[-1]) is not None
