"""Lanczos's iteration on pytrees: an orthonormal Krylov basis and the matrix seen in it."""

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
  """``vectors``: leaves (m, *shape), orthonormal; ``projected``: (m, m), Q' A Q."""

  vectors: Params
  projected: jax.Array


class _Iteration(NamedTuple):
  basis: Basis
  following: Params  # the unit vector that enters the basis next
  scale: jax.Array  # largest ||A q|| so far, what a rounding error is measured against


def lanczos(
  owner: Any,
  matvec: Callable[[Params], Params],
  start: Params,
  key: jax.Array,
  num_matvecs: int,
  basis_size: int | None = None,
  num_kept: int = 0,
) -> Basis:
  """``num_matvecs`` steps from ``start``, of the symmetric ``matvec`` of the operator ``owner``.

      w = A q_j;  Q' A Q gets the column Q' w;  w <- w - Q Q' w, twice;  q_{j+1} = w / ||w||

  The projected matrix is computed in full, so the Ritz values are right for any orthonormal
  basis. That allows two things. Where the Krylov space is exhausted and w is rounding error,
  a random direction takes its place: later copies of repeated eigenvalues are found, and
  nothing is divided by 0. And where the basis is full at ``basis_size``, it is replaced by its
  ``num_kept`` topmost Ritz vectors (the thick restart of Wu and Simon 2000, doi
  10.1137/S0895479898334605).
  """
  size = num_matvecs if basis_size is None else min(basis_size, num_matvecs)
  dtype = _tree.wide_dtype(*jax.tree.leaves(start))
  stack = lambda x: jnp.zeros_like(x, shape=(size, *x.shape), dtype=_tree.wide_dtype(x))
  empty = Basis(jax.tree.map(stack, start), jnp.zeros((size, size), dtype))

  def step(i, state: _Iteration) -> _Iteration:
    if size < num_matvecs:
      state = state._replace(basis=_make_room(size, num_kept, i, state.basis))
    return _extend(size, num_kept, key, i, state, matvec(state.following))

  first = unit(jax.tree.map(lambda x: jnp.asarray(x, _tree.wide_dtype(x)), start))
  state = _Iteration(empty, first, jnp.zeros((), dtype))
  basis = fori_loop(owner, num_matvecs, step, state).basis
  if size == num_matvecs:
    return basis
  filled = num_kept + (num_matvecs - size - 1) % (size - num_kept) + 1
  vectors = jax.tree.map(lambda q: q[:filled], basis.vectors)
  return Basis(vectors, basis.projected[:filled, :filled])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _make_room(size: int, num_kept: int, i: jax.Array, basis: Basis) -> Basis:
  full = (i >= size) & ((i - size) % max(size - num_kept, 1) == 0)
  return jax.lax.cond(full, lambda: _restart(basis, num_kept), lambda: basis)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _extend(
  size: int, num_kept: int, key: jax.Array, i: jax.Array, state: _Iteration, w: Params
) -> _Iteration:
  """The basis with the vector that was to follow, and the next one, made of its product w."""
  slot = jnp.where(i < size, i, num_kept + (i - size) % max(size - num_kept, 1))
  w = _tree.cast_like(w, state.following)
  vectors = jax.tree.map(lambda q, x: q.at[slot].set(x), state.basis.vectors, state.following)
  column = _coefficients(vectors, w)
  projected = state.basis.projected.at[slot].set(column).at[:, slot].set(column)
  scale = jnp.maximum(state.scale, _tree.norm(w))
  w = _orthogonalize(vectors, _orthogonalize(vectors, w))
  exhausted = _tree.norm(w) <= 10 * jnp.finfo(column.dtype).eps * scale
  random = lambda: _orthogonalize(vectors, random_unit(jax.random.fold_in(key, i), w))
  w = jax.lax.cond(exhausted, random, lambda: w)
  # Once more at unit length, where what is left of w may be little but rounding error.
  w = unit(_orthogonalize(vectors, unit(w)))
  return _Iteration(Basis(vectors, projected), w, scale)


def ritz(basis: Basis) -> tuple[jax.Array, jax.Array]:
  """Ritz values, ascending, and the coefficients (m, m) of their vectors in columns."""
  return jnp.linalg.eigh(basis.projected)


def combine(coefficients: jax.Array, vectors: Params) -> Params:
  """Columns of ``coefficients`` (m, n) as vectors: leaves (n, *shape)."""
  return jax.tree.map(
    lambda q: jnp.tensordot(coefficients.T.astype(q.dtype), q, 1, precision="highest"), vectors
  )


def random_unit(key: jax.Array, like: Params) -> Params:
  """A direction uniform on the sphere, in at least float32."""
  wide = jax.tree.map(lambda x: jnp.asarray(x, _tree.wide_dtype(x)), like)
  return unit(optax.tree.random_like(key, wide, jax.random.normal))


def unit(vector: Params) -> Params:
  norm = _tree.norm(vector)
  inverse = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)
  return jax.tree.map(lambda x: x * inverse.astype(x.dtype), vector)


def _coefficients(vectors: Params, w: Params) -> jax.Array:
  """Q' w, of shape (m,)."""
  dtype = _tree.wide_dtype(*jax.tree.leaves(w))
  products = jax.tree.map(
    lambda q, x: jnp.tensordot(q, x, x.ndim, precision="highest").astype(dtype), vectors, w
  )
  return sum(jax.tree.leaves(products), jnp.zeros((), dtype))


def _orthogonalize(vectors: Params, w: Params) -> Params:
  """w - Q Q' w."""
  coefficients: Any = _coefficients(vectors, w)
  remove = lambda q, x: x - jnp.tensordot(coefficients.astype(q.dtype), q, 1, precision="highest")
  return jax.tree.map(remove, vectors, w)


def _restart(basis: Basis, num_kept: int) -> Basis:
  """The topmost Ritz vectors in the first slots, zeros in the others."""
  values, coefficients = ritz(basis)
  kept = combine(coefficients[:, -num_kept:], basis.vectors)
  vectors = jax.tree.map(lambda q, x: jnp.zeros_like(q).at[:num_kept].set(x), basis.vectors, kept)
  diagonal = jnp.zeros_like(values).at[:num_kept].set(values[-num_kept:])
  return Basis(vectors, jnp.diag(diagonal))
