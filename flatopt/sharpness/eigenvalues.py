"""The largest and the smallest eigenvalues of the Hessian, or of another operator."""

from typing import Any

import jax

from flatopt import _arguments
from flatopt._typing import Mask, Params
from flatopt.sharpness.block import Block, as_block, check_num_matvecs
from flatopt.sharpness.lanczos import combine, lanczos, random_unit, ritz
from flatopt.sharpness.operator import GradFnOrOperator
from flatopt.sharpness.programs import run


def top_eigenvalues(
  grad_fn: GradFnOrOperator,
  params: Params,
  *,
  num: int = 1,
  num_matvecs: int = 32,
  basis_size: int | None = None,
  mask: Mask | None = None,
  key: int | jax.Array,
) -> tuple[jax.Array, Params]:
  """The ``num`` largest eigenvalues of the Hessian, and their eigenvectors.

  Lanczos's iteration from a random vector, with full reorthogonalisation; the values are
  Ritz values, never above the true ones but for rounding. Eigenvalues that repeat are all
  found where the Krylov space is exhausted, else once. Can be jitted; outside jit it is
  compiled once for the same ``grad_fn`` object (see ``hessian``). Cost: ``num_matvecs``
  Hessian-vector products of 2 gradients each, and ``num_matvecs`` vectors like params in
  memory, or ``basis_size``.

  Args:
    grad_fn: ``params -> grads``, or an operator.
    params: pytree of N real floating entries.
    num: eigenvalues, >= 1.
    num_matvecs: products, from ``num`` to N. More separate eigenvalues that lie close.
    basis_size: the low-memory choice: at most so many vectors are kept, >= ``num + 2``, and
      the iteration restarts from the best of them, which wants some more products.
    mask: bool pytree, a prefix of one, or ``params -> bool pytree``: the leaves whose
      eigenvalues are meant, the others being held fixed; N counts the entries of these, and
      so do vectors in memory. ``None``: all.
    key: int or JAX key, which may be traced, of the random start.

  Returns:
    ``(values, vectors)``: values of shape (num,), largest first, in at least float32;
    vectors of unit norm, a pytree like params whose leaves have a leading axis ``num``, zero
    off the mask. ``loss_landscape`` takes them as directions.

  Raises:
    ValueError, TypeError: a bad argument; a Hessian that is not finite, outside jit.

  Source:
    Lanczos 1950, doi 10.6028/jres.045.026; restarts of Wu, Simon 2000, doi
    10.1137/S0895479898334605.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> grad_fn = jax.grad(lambda w: jnp.sum(jnp.array([1.0, 5.0, 2.0]) * w**2) / 2)
    >>> values, vectors = sharpness.top_eigenvalues(
    ...   grad_fn, jnp.zeros(3), num=2, num_matvecs=3, key=0
    ... )
    >>> values.round(3), vectors.shape
    (Array([5., 2.], dtype=float32), (2, 3))
  """
  block, params = as_block("top_eigenvalues", grad_fn, params, mask)
  return _extreme(block, 1, params, num, num_matvecs, basis_size, key)


def smallest_eigenvalues(
  grad_fn: GradFnOrOperator,
  params: Params,
  *,
  num: int = 1,
  num_matvecs: int = 32,
  basis_size: int | None = None,
  mask: Mask | None = None,
  key: int | jax.Array,
) -> tuple[jax.Array, Params]:
  """The ``num`` smallest eigenvalues of the Hessian, the most negative first.

  Negative ones tell a saddle from a minimum, and their vectors lead down from it. It is
  ``top_eigenvalues`` of the negated Hessian: arguments, accuracy and cost are the same, and
  the values are never below the true ones but for rounding. Those next to 0 in the middle of a
  spectrum are not found this way; ``spectral_density`` counts them.

  Args:
    grad_fn, params, num, num_matvecs, basis_size, mask, key: as of ``top_eigenvalues``.

  Returns:
    ``(values, vectors)``: values of shape (num,), smallest first; vectors as those of
    ``top_eigenvalues``.

  Raises:
    ValueError, TypeError: a bad argument; a Hessian that is not finite, outside jit.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> grad_fn = jax.grad(lambda w: jnp.sum(jnp.array([1.0, -5.0, 2.0]) * w**2) / 2)
    >>> values, _ = sharpness.smallest_eigenvalues(
    ...   grad_fn, jnp.zeros(3), num=2, num_matvecs=3, key=0
    ... )
    >>> values.round(3)
    Array([-5.,  1.], dtype=float32)
  """
  block, params = as_block("smallest_eigenvalues", grad_fn, params, mask)
  return _extreme(block, -1, params, num, num_matvecs, basis_size, key)


def _extreme(
  block: Block,
  sign: int,
  params: Params,
  num: Any,
  num_matvecs: Any,
  basis_size: Any,
  key: Any,
) -> tuple[jax.Array, Params]:
  """Of ``sign`` times the operator, the largest; values with their own sign again."""
  name = block.method
  _arguments.check_integer(name, "num", num, minimum=1)
  check_num_matvecs(block, num_matvecs, params, minimum=num)
  if basis_size is not None:
    _arguments.check_integer(name, "basis_size", basis_size, minimum=num + 2)
  key = _arguments.as_key(name, key)
  sizes = (num, num_matvecs, basis_size)
  values, vectors, projected = run(block.operator, _eigenpairs, (block, sign, *sizes), params, key)
  _arguments.check_finite(name, "the Hessian", projected)
  return values, vectors


def _eigenpairs(
  block: Block,
  sign: int,
  num: int,
  num_matvecs: int,
  basis_size: int | None,
  params: Params,
  key: jax.Array,
) -> tuple[jax.Array, Params, jax.Array]:
  """Values, vectors, and the projected matrix, which is finite where the operator is."""
  matvec = lambda v: jax.tree.map(lambda x: sign * x, block.product(v, params))
  start_key, later_key = jax.random.split(key)
  start = random_unit(start_key, block.select(params))
  num_kept = (num + (basis_size or 0)) // 2
  basis = lanczos(block.operator, matvec, start, later_key, num_matvecs, basis_size, num_kept)
  values, coefficients = ritz(basis)
  vectors = combine(coefficients[:, : -num - 1 : -1], basis.vectors)
  return sign * values[: -num - 1 : -1], block.embed(vectors, params), basis.projected
