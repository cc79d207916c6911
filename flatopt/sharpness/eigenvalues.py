"""The largest eigenvalues of the Hessian."""

import jax
import jax.numpy as jnp

from flatopt import _arguments
from flatopt._typing import GradFn, Params
from flatopt.sharpness.lanczos import combine, lanczos, random_unit, ritz
from flatopt.sharpness.products import hessian


def top_eigenvalues(
  grad_fn: GradFn,
  params: Params,
  *,
  num: int = 1,
  num_matvecs: int = 32,
  basis_size: int | None = None,
  key: int | jax.Array,
) -> tuple[jax.Array, Params]:
  """The ``num`` largest eigenvalues of the Hessian, and their eigenvectors.

  Lanczos's iteration from a random vector, with full reorthogonalisation; the values are
  Ritz values, never above the true ones but for rounding. Eigenvalues that repeat are all
  found where the Krylov space is exhausted, else once. Can be jitted. Cost: ``num_matvecs``
  Hessian-vector products of 2 gradients each, and ``num_matvecs`` vectors like params in
  memory, or ``basis_size``.

  Args:
    grad_fn: ``params -> grads``.
    params: pytree of N real floating entries.
    num: eigenvalues, >= 1.
    num_matvecs: products, from ``num`` to N. More separate eigenvalues that lie close.
    basis_size: the low-memory choice: at most so many vectors are kept, >= ``num + 2``, and
      the iteration restarts from the best of them, which wants some more products.
    key: int or JAX key, which may be traced, of the random start.

  Returns:
    ``(values, vectors)``: values of shape (num,), largest first, in at least float32;
    vectors of unit norm, a pytree like params whose leaves have a leading axis ``num``.

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
  name = "top_eigenvalues"
  params = jax.tree.map(jnp.asarray, params)
  matvec = hessian(name, grad_fn, params)
  _arguments.check_integer(name, "num", num, minimum=1)
  check_num_matvecs(name, num_matvecs, params, minimum=num)
  if basis_size is not None:
    _arguments.check_integer(name, "basis_size", basis_size, minimum=num + 2)
  start_key, later_key = jax.random.split(_arguments.as_key(name, key))
  start = random_unit(start_key, params)
  num_kept = (num + (basis_size or 0)) // 2
  basis = lanczos(grad_fn, matvec, start, later_key, num_matvecs, basis_size, num_kept)
  _arguments.check_finite(name, "the Hessian", basis.projected)
  values, coefficients = ritz(basis)
  return values[: -num - 1 : -1], combine(coefficients[:, : -num - 1 : -1], basis.vectors)


def check_num_matvecs(name: str, num_matvecs: int, params: Params, minimum: int = 1) -> None:
  _arguments.check_integer(name, "num_matvecs", num_matvecs, minimum=minimum)
  size = sum(x.size for x in jax.tree.leaves(params))
  if num_matvecs > size:
    raise ValueError(
      f"{name}: num_matvecs must be at most {size}, the number of params; got {num_matvecs}"
    )
