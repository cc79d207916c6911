"""Lanczos's iteration on pytrees: an orthonormal basis Q of a Krylov space, and Q' A Q."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flatopt import _tree
from flatopt._typing import Params
from flatopt.sharpness.vectors import signs_of


class Basis(NamedTuple):
  """``vectors``: Q, leaves of shape (m, *shape); ``projected``: Q' A Q, of shape (m, m)."""

  vectors: Params
  projected: jax.Array


def lanczos(
  matvec: Callable[[Params], Params],
  zeros: Params,
  draw: Callable[[jax.Array], Params],
  key: jax.Array,
  num_matvecs: int,
  *,
  with_signs: bool = False,
  basis_size: int | None = None,
  num_kept: int = 0,
  scan: Callable = jax.lax.scan,
) -> Basis:
  """Runs ``num_matvecs`` steps from a random vector. ``matvec`` is the product with the symmetric A.

      c = Q' w;  w <- w - Q c;  q = w / ||w||;  w = A q

  ``c`` is a column of Q' A Q. The whole matrix is computed, so the Ritz values are right for any
  orthonormal basis Q. Two things need this. If w is only rounding error after the projections, then
  the Krylov space is exhausted, and a random direction replaces w; this finds more copies of
  repeated eigenvalues and avoids a division by 0. It also makes the first vector, because w starts
  at 0. And if the basis has ``basis_size`` vectors, it is replaced by the ``num_kept`` Ritz vectors
  with the largest values (the thick restart of Wu and Simon 2000, doi 10.1137/S0895479898334605).
  Two projections are always enough (Giraud and others 2005, doi 10.1007/s00211-005-0615-4).

  Args:
    matvec: takes and returns a vector, which is a pytree of arrays in float32 or wider.
    zeros: the vector 0.
    draw: draws a random vector from a key.
    key: draws the start; keys made from it draw replacements.
    num_matvecs: number of steps, and of products.
    with_signs: whether the start has the signs of the entries that are drawn.
    basis_size, num_kept: the largest number of vectors, and the number that survives a restart.
    scan: ``jax.lax.scan``, or a Python loop if ``matvec`` cannot be traced.
  """
  size = num_matvecs if basis_size is None else min(basis_size, num_matvecs)
  num_kept = num_kept if size < num_matvecs else 0  # a restart is compiled only if there is one
  # Broadcasts have the sharding and the mesh of the vectors, which zeros of a shape would not have.
  scale = _tree.dot(zeros, zeros)
  empty = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), zeros)
  # A times the newest vector, and the largest ||Q' A q|| so far, which rounding is relative to.
  product, basis = zeros, Basis(empty, jnp.broadcast_to(scale, (size, size)))
  # Between products on the host, this is one program.
  extend = jax.jit(partial(_extend, draw, with_signs, num_kept))

  def step(state, index_and_key):
    basis, q, scale = extend(state, *index_and_key)
    return (basis, _tree.cast_like(matvec(q), q), scale), None

  keys = jnp.concatenate([key[None], jax.random.split(key, num_matvecs)[1:]])
  state = scan(step, (basis, product, scale), (jnp.arange(num_matvecs), keys))[0]
  (vectors, projected), product, _ = state
  column = _coefficients(vectors, product)
  projected = _set_column(projected, _slot(size, num_kept, num_matvecs - 1), column)
  if size < num_matvecs:
    filled = num_kept + (num_matvecs - size - 1) % (size - num_kept) + 1
    vectors = jax.tree.map(lambda q: q[:filled], vectors)
    projected = projected[:filled, :filled]
  return Basis(vectors, projected)


def _slot(size: int, num_kept: int, i: jax.Array | int) -> jax.Array:
  """Returns the place in the basis of the vector of step ``i``."""
  return jnp.where(i < size, i, num_kept + (i - size) % max(size - num_kept, 1))


def _extend(
  draw: Callable, with_signs: bool, num_kept: int, state: Any, i: jax.Array, key: jax.Array
) -> tuple[Basis, Params, jax.Array]:
  """Adds a vector to the basis; returns the basis, the vector and the scale."""
  (vectors, projected), product, scale = state
  size = projected.shape[0]

  def draw_direction():
    vector = draw(key)
    return _tree.where(i == 0, signs_of(vector), vector) if with_signs else vector

  newest = _slot(size, num_kept, jnp.maximum(i - 1, 0))
  w, column, scale = _orthogonalize(vectors, newest, product, scale, draw_direction)
  projected = _set_column(projected, newest, column)
  basis = Basis(vectors, projected)
  if num_kept:
    full = (i >= size) & ((i - size) % max(size - num_kept, 1) == 0)
    basis = jax.lax.cond(full, lambda: _restart(basis, num_kept), lambda: basis)
  slot = _slot(size, num_kept, i)
  add = lambda q, x: jax.lax.dynamic_update_index_in_dim(q, x, slot, 0)
  return basis._replace(vectors=jax.tree.map(add, basis.vectors, w)), w, scale


def _orthogonalize(
  vectors: Params, newest: jax.Array, w: Params, scale: jax.Array, draw: Callable[[], Params]
) -> tuple[Params, jax.Array, jax.Array]:
  """Returns the unit vector of w's part outside the span, Q' w, and the largest norm so far.

  In exact arithmetic w has parts along the newest two vectors only, and after a restart along all.
  These two go first, because a projection that removes much adds the rounding errors of Q. So one
  projection on all of Q is enough, or two if the first removes much. Another two are for the random
  vector if nothing is left of w. They are a loop, so that the projection is compiled once.
  """
  size = jax.tree.leaves(vectors)[0].shape[0]
  first = jnp.maximum(newest - 1, 0)
  pair = jax.tree.map(lambda q: jax.lax.dynamic_slice_in_dim(q, first, min(size, 2)), vectors)
  w, coefficients = _project(pair, w)
  zeros = jnp.broadcast_to(0 * scale, size)
  column = jax.lax.dynamic_update_slice_in_dim(zeros, coefficients, first, 0)

  def project(state):
    count, w, column, _, _ = state
    w, coefficients = _project(vectors, jax.lax.cond(count == 2, draw, lambda: w))
    column = jnp.where(count < 2, column + coefficients, column)
    return count + 1, w, column, jnp.sqrt(_tree.dot(w, w)), jnp.linalg.norm(coefficients)

  def is_unfinished(state):
    count, _, column, length, removed = state
    rounding = 10 * float(jnp.finfo(scale.dtype).eps)
    nothing_left = length <= rounding * jnp.maximum(scale, jnp.linalg.norm(column))
    again = (count == 1) & ((removed > 0.1 * length) | nothing_left)
    return (count == 0) | again | (count == 2) & nothing_left | (count == 3)

  state = jnp.int32(0), w, column, scale, scale
  _, w, column, length, _ = jax.lax.while_loop(is_unfinished, project, state)
  inverse = 1 / jnp.where(length > 0, length, 1)
  return jax.tree.map(lambda x: x * inverse, w), column, jnp.maximum(scale, jnp.linalg.norm(column))


def _project(vectors: Params, w: Params) -> tuple[Params, jax.Array]:
  """Returns w - Q Q' w, and Q' w."""
  coefficients = _coefficients(vectors, w)
  remove = lambda q, x: x - _dot(coefficients.astype(q.dtype), q)
  return jax.tree.map(remove, vectors, w), coefficients


def _restart(basis: Basis, num_kept: int) -> Basis:
  """Returns a basis of the ``num_kept`` Ritz vectors with the largest values; the rest is 0."""
  values, coefficients = ritz(basis.projected)
  kept = combine(coefficients[:, -num_kept:], basis.vectors)
  padded = lambda x, q: jnp.concatenate([x, jnp.zeros_like(q[num_kept:])])
  vectors = jax.tree.map(padded, kept, basis.vectors)
  return Basis(vectors, jnp.diag(padded(values[-num_kept:], values)))


def ritz(projected: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the Ritz values, ascending, and the coefficients of their vectors, in columns."""
  return jnp.linalg.eigh(projected, symmetrize_input=False)  # it is symmetric to the last bit


def combine(coefficients: jax.Array, vectors: Params) -> Params:
  """Returns the vectors whose coefficients are the columns: (m, n) gives leaves (n, *shape)."""
  return jax.tree.map(lambda q: _dot(coefficients.T.astype(q.dtype), q), vectors)


def _coefficients(vectors: Params, w: Params) -> jax.Array:
  """Returns Q' w, of shape (m,)."""
  dtype = _tree.wide_dtype(*jax.tree.leaves(w))

  def leaf_coefficients(q, x):
    # Every device gets the sum over all shards; JAX wants this said on meshes with explicit axes.
    replicated = jax.typeof(jnp.sum(x)).sharding
    return jnp.tensordot(q, x, x.ndim, precision="highest", out_sharding=replicated).astype(dtype)

  products = jax.tree.map(leaf_coefficients, vectors, w)
  return sum(jax.tree.leaves(products), jnp.zeros((), dtype))


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns the sum over the last axis of a and the first of b, in full precision."""
  return jnp.tensordot(a, b, 1, precision="highest")


def _set_column(matrix: jax.Array, i: jax.Array, column: jax.Array) -> jax.Array:
  """Returns the matrix with this column, and this row."""
  for axis in (0, 1):
    matrix = jax.lax.dynamic_update_index_in_dim(matrix, column, i, axis)
  return matrix
