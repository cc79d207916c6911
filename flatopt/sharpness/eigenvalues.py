"""The largest and the smallest eigenvalues of the Hessian, or of another operator."""

from typing import Any

import jax

from flatopt import _arguments, _results
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
  """Returns the ``num`` largest eigenvalues of the Hessian, and their eigenvectors.

  This is Lanczos's iteration from a random vector, with full reorthogonalisation. The values are
  Ritz values: except for rounding, they are never larger than the true eigenvalues. A repeated
  eigenvalue is found once; all its copies are found only if the Krylov space is exhausted. You can
  jit it. Outside jit it is compiled once for the same ``grad_fn`` object (see ``hessian``). Cost:
  ``num_matvecs`` Hessian-vector products of 2 gradients each; memory for ``num_matvecs`` vectors
  like params, or for ``basis_size`` of them.

  Args:
    grad_fn: ``params -> grads``, or an operator.
    params: pytree of real floating arrays with N entries in total.
    num: number of eigenvalues, >= 1.
    num_matvecs: number of products, from ``num`` to N. With more products, the values are more
      accurate, and eigenvalues that are close to each other are separated.
    basis_size: to save memory, the largest number of vectors to keep, >= ``num + 2``. When the
      memory is full, the iteration restarts from the best vectors; it then needs some more
      products for the same accuracy. ``None``: keep all vectors.
    mask: bool pytree, a prefix of it, or a callable ``params -> bool pytree``. The Hessian is taken
      with respect to the leaves that are True; the others are constants. N counts only these
      leaves, and the vectors in memory have only these. ``None``: all leaves.
    key: int or JAX key for the random start vector; it may be traced.

  Returns:
    ``(values, vectors)``. The values have shape (num,), the largest first, in float32 or wider.
    The vectors have norm 1; they are a pytree like params whose leaves have a leading axis of
    length ``num``, and are 0 outside the mask. ``loss_landscape`` accepts them as directions.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type; or, outside jit, the
      Hessian is not finite.

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
  return _extreme_eigenvalues(block, 1, params, num, num_matvecs, basis_size, key)


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
  """Returns the ``num`` smallest eigenvalues of the Hessian, the most negative first.

  A negative eigenvalue shows that the point is a saddle and not a minimum; its eigenvector leads
  down. The function is ``top_eigenvalues`` of the negated Hessian. So except for rounding, the
  values are never smaller than the true eigenvalues. It does not find the eigenvalues close to 0
  in the middle of a spectrum; ``spectral_density`` shows how many there are. Cost: that of
  ``top_eigenvalues``.

  Args:
    grad_fn, params, num, num_matvecs, basis_size, mask, key: as in ``top_eigenvalues``.

  Returns:
    ``(values, vectors)``. The values have shape (num,), the smallest first. The vectors are like
    those of ``top_eigenvalues``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type; or, outside jit, the
      Hessian is not finite.

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
  return _extreme_eigenvalues(block, -1, params, num, num_matvecs, basis_size, key)


def _extreme_eigenvalues(
  block: Block,
  sign: int,
  params: Params,
  num: Any,
  num_matvecs: Any,
  basis_size: Any,
  key: Any,
) -> tuple[jax.Array, Params]:
  """Returns the largest eigenvalues of ``sign`` times the operator, times ``sign``."""
  name = block.method
  _arguments.check_integer(name, "num", num, minimum=1)
  check_num_matvecs(block, num_matvecs, params, minimum=num)
  if basis_size is not None:
    _arguments.check_integer(name, "basis_size", basis_size, minimum=num + 2)
  key = _arguments.as_key(name, key)
  sizes = (num, num_matvecs, basis_size)
  values, vectors, projected = run(block.operator, _eigenpairs, (block, sign, *sizes), params, key)
  _results.check_finite(name, "the Hessian", projected)
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
  """Returns values, vectors, and the projected matrix, which is finite if the operator is."""
  matvec = lambda v: jax.tree.map(lambda x: sign * x, block.product(v, params))
  start_key, later_key = jax.random.split(key)
  start = random_unit(start_key, block.select(params))
  num_kept = (num + (basis_size or 0)) // 2
  basis = lanczos(block.operator, matvec, start, later_key, num_matvecs, basis_size, num_kept)
  values, coefficients = ritz(basis)
  vectors = combine(coefficients[:, : -num - 1 : -1], basis.vectors)
  return sign * values[: -num - 1 : -1], block.embed(vectors, params), basis.projected
