"""Lanczos's iteration on pytrees: an orthonormal basis Q of a Krylov space, and Q' A Q."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _tree
from flatopt._typing import Params
from flatopt.sharpness.host import fori_loop


class Basis(NamedTuple):
  """``vectors``: Q, leaves of shape (m, *shape); ``projected``: Q' A Q, of shape (m, m)."""

  vectors: Params
  projected: jax.Array


class _Iteration(NamedTuple):
  """The basis so far, and what the next step needs."""

  basis: Basis
  next_vector: Params  # the unit vector that is added to the basis next
  scale: jax.Array  # the largest ||A q|| so far; rounding errors are relative to it


def lanczos(
  owner: Any,
  matvec: Callable[[Params], Params],
  start: Params,
  key: jax.Array,
  num_matvecs: int,
  basis_size: int | None = None,
  num_kept: int = 0,
) -> Basis:
  """Runs ``num_matvecs`` steps from ``start``. ``matvec`` is the product with the symmetric A.

      w = A q_j;  Q' w is a column of Q' A Q;  w <- w - Q Q' w, twice;  q_{j+1} = w / ||w||

  The whole matrix Q' A Q is computed, so the Ritz values are right for any orthonormal basis Q. Two
  things need this. If the Krylov space is exhausted, w is only rounding error; then a random
  direction replaces it, which finds more copies of repeated eigenvalues and avoids a division by
  0. And if the basis has ``basis_size`` vectors, it is replaced by the ``num_kept`` Ritz vectors
  with the largest values (the thick restart of Wu and Simon 2000, doi
  10.1137/S0895479898334605). ``owner`` is the operator that ``matvec`` calls.
  """
  size = num_matvecs if basis_size is None else min(basis_size, num_matvecs)
  dtype = _tree.wide_dtype(*jax.tree.leaves(start))
  stack = lambda x: jnp.zeros_like(x, shape=(size, *x.shape), dtype=_tree.wide_dtype(x))
  empty = Basis(jax.tree.map(stack, start), jnp.zeros((size, size), dtype))

  def step(i, state: _Iteration) -> _Iteration:
    if size < num_matvecs:
      state = state._replace(basis=_restart_if_full(size, num_kept, i, state.basis))
    return _extend(size, num_kept, key, i, state, matvec(state.next_vector))

  first = unit(jax.tree.map(lambda x: jnp.asarray(x, _tree.wide_dtype(x)), start))
  state = _Iteration(empty, first, jnp.zeros((), dtype))
  basis = fori_loop(owner, num_matvecs, step, state).basis
  if size == num_matvecs:
    return basis
  filled = num_kept + (num_matvecs - size - 1) % (size - num_kept) + 1
  vectors = jax.tree.map(lambda q: q[:filled], basis.vectors)
  return Basis(vectors, basis.projected[:filled, :filled])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _restart_if_full(size: int, num_kept: int, i: jax.Array, basis: Basis) -> Basis:
  """Replaces a full basis by its best Ritz vectors before step ``i``."""
  full = (i >= size) & ((i - size) % max(size - num_kept, 1) == 0)
  return jax.lax.cond(full, lambda: _restart(basis, num_kept), lambda: basis)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _extend(
  size: int, num_kept: int, key: jax.Array, i: jax.Array, state: _Iteration, w: Params
) -> _Iteration:
  """Adds the next vector to the basis, and makes the one after it from its product ``w = A q``."""
  slot = jnp.where(i < size, i, num_kept + (i - size) % max(size - num_kept, 1))
  w = _tree.cast_like(w, state.next_vector)
  vectors = jax.tree.map(lambda q, x: q.at[slot].set(x), state.basis.vectors, state.next_vector)
  column = _coefficients(vectors, w)
  projected = state.basis.projected.at[slot].set(column).at[:, slot].set(column)
  scale = jnp.maximum(state.scale, _tree.norm(w))
  w = _orthogonalize(vectors, _orthogonalize(vectors, w))
  exhausted = _tree.norm(w) <= 10 * jnp.finfo(column.dtype).eps * scale
  random = lambda: _orthogonalize(vectors, random_unit(jax.random.fold_in(key, i), w))
  w = jax.lax.cond(exhausted, random, lambda: w)
  # Once more at unit length, because a short w can be mostly rounding error.
  w = unit(_orthogonalize(vectors, unit(w)))
  return _Iteration(Basis(vectors, projected), w, scale)


def ritz(basis: Basis) -> tuple[jax.Array, jax.Array]:
  """Returns the Ritz values, ascending, and the coefficients of their vectors, in columns."""
  return jnp.linalg.eigh(basis.projected)


def combine(coefficients: jax.Array, vectors: Params) -> Params:
  """Returns the vectors whose coefficients are the columns: (m, n) gives leaves (n, *shape)."""
  return jax.tree.map(
    lambda q: jnp.tensordot(coefficients.T.astype(q.dtype), q, 1, precision="highest"), vectors
  )


def random_unit(key: jax.Array, like: Params) -> Params:
  """Draws a direction uniformly from the unit sphere, in float32 or wider."""
  wide = jax.tree.map(lambda x: jnp.asarray(x, _tree.wide_dtype(x)), like)
  return unit(optax.tree.random_like(key, wide, jax.random.normal))


def unit(vector: Params) -> Params:
  """Returns the vector divided by its norm, or 0 for the zero vector."""
  norm = _tree.norm(vector)
  inverse = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)
  return jax.tree.map(lambda x: x * inverse.astype(x.dtype), vector)


def _coefficients(vectors: Params, w: Params) -> jax.Array:
  """Returns Q' w, of shape (m,)."""
  dtype = _tree.wide_dtype(*jax.tree.leaves(w))
  products = jax.tree.map(
    lambda q, x: jnp.tensordot(q, x, x.ndim, precision="highest").astype(dtype), vectors, w
  )
  return sum(jax.tree.leaves(products), jnp.zeros((), dtype))


def _orthogonalize(vectors: Params, w: Params) -> Params:
  """Returns w - Q Q' w."""
  coefficients: Any = _coefficients(vectors, w)
  remove = lambda q, x: x - jnp.tensordot(coefficients.astype(q.dtype), q, 1, precision="highest")
  return jax.tree.map(remove, vectors, w)


def _restart(basis: Basis, num_kept: int) -> Basis:
  """Returns a basis of the ``num_kept`` Ritz vectors with the largest values; the rest is 0."""
  values, coefficients = ritz(basis)
  kept = combine(coefficients[:, -num_kept:], basis.vectors)
  vectors = jax.tree.map(lambda q, x: jnp.zeros_like(q).at[:num_kept].set(x), basis.vectors, kept)
  diagonal = jnp.zeros_like(values).at[:num_kept].set(values[-num_kept:])
  return Basis(vectors, jnp.diag(diagonal))
