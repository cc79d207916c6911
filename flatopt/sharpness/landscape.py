"""The loss on a line or a grid through the params."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _results, _tree
from flatopt._typing import Params
from flatopt.sharpness import vectors
from flatopt.sharpness.host import scan


def filter_normalized_directions(
  params: Params, *, num: int = 2, filter_axis: int = -1, key: int | jax.Array
) -> tuple[Params, ...]:
  """Draws random directions whose filters have the same norms as the filters of the params.

      d_f <- d_f * ||w_f|| / ||d_f||   for every filter f

  A filter is the part of a kernel that belongs to one output feature: one index of the axis
  ``filter_axis``, and all of the other axes. A leaf with one axis or none is one filter. With them
  you can compare the landscapes of networks whose layers have different scales. Cost: no gradient.

  Args:
    params: pytree of real floating arrays.
    num: number of directions, >= 1.
    filter_axis: the axis of the output features: -1 in the layout of Flax, ``(..., in, out)``; 0 in
      that of Equinox and PyTorch, ``(out, in, ...)``.
    key: int or JAX key, which may be traced.

  Returns:
    A tuple of ``num`` pytrees like params.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Source:
    Li, Xu, Taylor, Studer, Goldstein 2018, arXiv 1712.09913, section 4. Deviation: the paper
    excludes biases from the directions; here they are normalised like other leaves.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> kernel = jnp.array([[3.0, 0.0], [4.0, 1.0]])
    >>> (direction,) = sharpness.filter_normalized_directions(kernel, num=1, key=0)
    >>> jnp.linalg.norm(direction, axis=0).round(3)
    Array([5., 1.], dtype=float32)
  """
  name = "filter_normalized_directions"
  _arguments.check_integer(name, "num", num, minimum=1)
  _arguments.check_params(name, params)
  if filter_axis not in (0, -1):
    raise ValueError(f"{name}: filter_axis must be 0 or -1; got {filter_axis!r}")
  wide = jax.tree.map(lambda w: jnp.asarray(w, _tree.wide_dtype(w)), params)

  def normalize(d, w):
    axes = tuple(range(w.ndim))
    if w.ndim > 1:
      axes = axes[1:] if filter_axis == 0 else axes[:-1]
    length = lambda x: jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True))
    return d * (length(w) / length(d))

  def direction(key):
    return _tree.cast_like(jax.tree.map(normalize, vectors.normal(key, wide), wide), params)

  return tuple(direction(k) for k in jax.random.split(_arguments.as_key(name, key), num))


def loss_landscape(
  loss_fn: Callable[[Params], jax.Array],
  params: Params,
  directions: tuple[Params, ...] | Params,
  *,
  span: float = 1.0,
  resolution: int = 25,
) -> jax.Array:
  """Returns the loss on a regular grid around the params.

      losses[i, j, ...] = loss_fn(w + a_i d_1 + a_j d_2 + ...)
      a = linspace(-span, span, resolution)

  Cost: one loss per point, computed one after the other; no gradient.

  Args:
    loss_fn: ``params -> scalar``.
    params: pytree of real floating arrays.
    directions: a tuple of pytrees like params, for example from
      ``filter_normalized_directions``; or one pytree like params whose leaves have a leading axis
      over the directions, for example the vectors from ``top_eigenvalues``.
    span: largest coordinate of the grid along each direction, >= 0.
    resolution: number of points along a direction, >= 2; if odd, the params are on the grid.

  Returns:
    The losses, with one axis of ``resolution`` points for each direction.

  Raises:
    ValueError, TypeError: an argument is out of range, of the wrong type or not like the params.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> loss_fn = lambda w: jnp.sum(w**2)
    >>> sharpness.loss_landscape(loss_fn, jnp.zeros(2), (jnp.ones(2),), resolution=3)
    Array([2., 0., 2.], dtype=float32)
  """
  _arguments.check_number("loss_landscape", "span", span, low=0)
  _arguments.check_integer("loss_landscape", "resolution", resolution, minimum=2)
  _arguments.check_params("loss_landscape", params)
  _arguments.check_closure("loss_landscape", "loss_fn", loss_fn)
  params = jax.tree.map(jnp.asarray, params)
  trees = _as_tuple(directions, params)
  line = jnp.linspace(-span, span, resolution, dtype=_tree.wide_dtype(*jax.tree.leaves(params)))
  axes = jnp.meshgrid(*[line] * len(trees), indexing="ij")

  def loss_at(_, coordinates):
    point = params
    for a, direction in zip(coordinates, trees, strict=True):
      point = _tree.map_wide(lambda a, w, d: w + a * d, (a,), point, direction)
    return None, _results.check_scalar("loss_landscape", loss_fn(point))

  points = jnp.stack([a.ravel() for a in axes], axis=1)
  _, losses = scan(loss_fn, loss_at, None, points)
  return losses.reshape((resolution,) * len(trees))


def _as_tuple(directions: Any, params: Params) -> tuple[Params, ...]:
  """Checks the directions and returns them as a tuple of pytrees."""
  wanted = (
    "loss_landscape: directions must be a tuple of pytrees like params, or one pytree whose leaves"
    " have a leading axis over one or more directions"
  )
  if jax.tree.structure(directions) == jax.tree.structure(params):
    shapes = [jnp.shape(x) for x in jax.tree.leaves(directions)]
    num = shapes[0][0] if shapes[0] else 0
    if num == 0 or shapes != [(num, *w.shape) for w in jax.tree.leaves(params)]:
      raise ValueError(f"{wanted}; got leaves of shapes {shapes}")
    return tuple(jax.tree.map(lambda x, i=i: x[i], directions) for i in range(num))
  if not isinstance(directions, tuple | list) or not directions:
    raise TypeError(f"{wanted}; got {_arguments.describe(directions)}")
  for i, direction in enumerate(directions):
    _arguments.check_same_tree("loss_landscape", f"directions[{i}]", direction, params)
  return tuple(directions)
