"""The perturbation ``eps``, which all sharpness-aware methods share.

SAM:   eps(g) = rho * g / ||g||
ASAM:  eps(g) = rho * T^2 g / ||T g||,  T = |w| + eta on the leaves of scale_mask, 1 on the others
"""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flatopt import _arguments, _devices, _method, _results, _tree
from flatopt._typing import Axes, AxisName, Mask, Params, ScalarOrSchedule, ShardAxes

_BIAS = re.compile(r"b\d*|(.*_)?bias(_.*)?")


def perturb(
  params: Params,
  grads: Params,
  rho: Any,
  *,
  eta: Any = None,
  scale_mask: Mask | None = None,
  mask: Mask | None = None,
  axes: Axes | None = None,
) -> tuple[Params, jax.Array]:
  """Returns ``params + eps(grads)``, and whether the gradients are finite.

  The perturbation is ASAM's if ``eta`` is given. The masks have one bool per leaf. Only the leaves
  of ``mask`` are perturbed and counted in the norm; ``None``: all leaves. A zero gradient does not
  change the params; a gradient that is not finite makes them NaN. ``axes`` as in ``_tree.norm``.
  """
  finite = jnp.array(True)
  if mask is not None:
    finite = jnp.isfinite(_tree.norm(grads, axes))
    grads = jax.tree.map(lambda on, g: jnp.where(on, g, 0), mask, grads)
  if eta is None:
    scale, scaled = (), grads
  else:
    scale = (adaptive_scale(params, eta, scale_mask),)
    scaled = jax.tree.map(lambda g, t: jnp.asarray(g, t.dtype) * t, grads, *scale)
  norm = _tree.norm(scaled, axes)
  rho = jnp.asarray(rho, norm.dtype)
  # If rho / norm would overflow, the largest finite number is used instead.
  divisor = jnp.maximum(norm, jax.lax.stop_gradient(rho) / jnp.finfo(norm.dtype).max)
  length = jnp.where(norm == 0, 0, rho / jnp.where(norm == 0, 1, divisor))
  length = jnp.where(jnp.isfinite(norm), length, jnp.nan)

  def ascend(length, w, g, *t):
    return w + math.prod(t, start=length * g)

  perturbed = _tree.map_wide(ascend, (length,), params, scaled, *scale)
  return perturbed, finite & jnp.isfinite(norm)


@dataclasses.dataclass(frozen=True)
class Perturbation:
  """The perturbation of one method, with those arguments of the method that belong to it."""

  method: str
  rho: ScalarOrSchedule
  axis_name: AxisName
  shard_axes: ShardAxes
  sync_perturbation: bool
  eta: ScalarOrSchedule | None = None
  scale_mask: Mask | None = None
  mask: Mask | None = None

  def __post_init__(self):
    _arguments.check_number(self.method, "rho", self.rho, low=0)
    if self.eta is not None:
      _arguments.check_number(self.method, "eta", self.eta, low=0)
    _arguments.check_axes(self.method, self.axis_name, self.shard_axes, self.sync_perturbation)

  def axes(self, params: Params) -> Axes:
    """Returns the mesh axes that each leaf is sharded over."""
    return _devices.leaf_axes(self.method, params, self.axis_name, self.shard_axes)

  def gradient(self, params: Params, direction: Params, step: Any, extra_args: Any) -> Params:
    """Returns ``grad_fn(w + eps(direction))`` per device.

    If the direction is not finite, every entry of the result is NaN, so that later transformations
    (``optax.apply_if_finite``) can see it. Returning the gradient would keep it in memory.
    """
    sharp, _, finite = self.perturbed(params, direction, step, extra_args)
    return nan_unless(finite, sharp)

  def perturbed(
    self, params: Params, direction: Params, step: Any, extra_args: Any
  ) -> tuple[Params, Params, jax.Array]:
    """Returns the gradient at ``w + eps``, ``w + eps``, and whether the direction is finite.

    Each device gets its own result. With ``sync_perturbation`` all use the averaged direction.
    """
    grad_fn = _method.closure(self.method, "grad_fn", extra_args)
    perturbed, finite = perturb(
      params,
      _devices.mean(direction, self.axis_name) if self.sync_perturbation else direction,
      _arguments.value_at(self.rho, step),
      eta=_arguments.value_at(self.eta, step),
      scale_mask=full_mask(f"{self.method}: scale_mask", self.scale_mask, params),
      mask=full_mask(f"{self.method}: mask", self.mask, params),
      axes=self.axes(params),
    )
    perturbed = _devices.varying(perturbed, self.axis_name)
    sharp = grad_fn(perturbed)
    _results.check_gradients(self.method, "grad_fn", sharp, params)
    return _devices.varying(_tree.cast_like(sharp, params), self.axis_name), perturbed, finite


def nan_unless(finite: jax.Array, tree: Params) -> Params:
  """Returns the tree, or NaN in every entry if ``finite`` is False."""
  return jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), tree)


def adaptive_scale(params: Params, eta: Any, scale_mask: Mask | None) -> Params:
  """Returns ASAM's ``T``, a tree like params."""
  if scale_mask is None:
    scale_mask = jax.tree_util.tree_map_with_path(lambda path, _: not is_bias(path), params)

  def scale(scaled, w):
    dtype = _tree.wide_dtype(w)
    return jnp.where(scaled, jnp.abs(jnp.asarray(w, dtype)) + jnp.asarray(eta, dtype), 1)

  return jax.tree.map(scale, scale_mask, params)


def full_mask(name: str, mask: Mask | None, params: Params) -> Params:
  """Returns a mask with one flag per leaf of the params, or ``None`` for ``None``.

  Leaves are found by their paths, so that a dict fits an ``nnx.State``, with or without variables,
  and an entry for an inner node holds for all leaves below it. A frozen leaf may have one, too.
  """
  if mask is None:
    return None
  # An Equinox module is callable too, so the leaves decide.
  flags = jax.tree.leaves(mask)
  if callable(mask) and not (flags and all(map(_is_flag, flags))):
    mask = mask(params)
  entries = {_keys(path): (path, on) for path, on in jax.tree_util.tree_leaves_with_path(mask)}
  used = set()
  is_frozen = lambda x: isinstance(x, optax.MaskedNode)

  def flag_of(path, leaf):
    keys = _keys(path)
    found = [keys[:n] for n in range(len(keys), -1, -1) if keys[:n] in entries][:1]
    used.update(found)
    if not found and not is_frozen(leaf):
      raise ValueError(
        f"{name} does not fit the params: it has no entry for params{jax.tree_util.keystr(path)}."
        " It must have one for every leaf, or for a node above it"
      )
    return leaf if is_frozen(leaf) else entries[found[0]][1]

  full = jax.tree_util.tree_map_with_path(flag_of, params, is_leaf=is_frozen)
  if unused := [path for keys, (path, _) in entries.items() if keys not in used]:
    raise ValueError(
      f"{name} does not fit the params: they have nothing for its entry mask"
      f"{jax.tree_util.keystr(unused[0])}"
    )
  return full


def checked_mask(method: str, mask: Mask, params: Params) -> Params:
  """Returns a mask with one Python bool per leaf of the params, which is True somewhere."""
  full = full_mask(f"{method}: mask", mask, params)
  flags = jax.tree.leaves(full)
  if not all(isinstance(on, bool | np.bool_) for on in flags):
    raise TypeError(f"{method}: mask must hold Python bools; got {_arguments.describe(full)}")
  if not any(flags):
    raise ValueError(f"{method}: mask is False everywhere; it must be True on one leaf or more")
  return full


def _is_flag(x: Any) -> bool:
  return isinstance(x, bool) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, bool))


def _keys(path: tuple[Any, ...]) -> tuple[Any, ...]:
  """Returns the keys, names and indices of a path, without the attribute of an NNX variable."""
  if path and getattr(path[-1], "name", None) in ("value", "raw_value"):
    path = path[:-1]
  return tuple(
    getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", None))) for entry in path
  )


def is_bias(path: tuple[Any, ...]) -> bool:
  """Whether the last string key of a leaf's path is the name of a bias.

  The keys ``value`` and ``raw_value``, which NNX variables add, are skipped.
  """
  names = [n for n in _keys(path) if isinstance(n, str) and n not in ("value", "raw_value")]
  return bool(names) and _BIAS.fullmatch(names[-1]) is not None
