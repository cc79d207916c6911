"""The extreme eigenvalues of the Hessian, or of another operator, and the density of all of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flatopt import _arguments, _results
from flatopt._typing import Mask, Params
from flatopt.sharpness.block import Block, as_block, check_num_matvecs
from flatopt.sharpness.lanczos import Basis, combine, lanczos, ritz
from flatopt.sharpness.operators import GradFnOrOperator
from flatopt.sharpness.vectors import Pack, normal, packing

_POINTS = 1024
_BANDWIDTH = 0.01  # standard deviation of the kernel, as a share of the spectrum's range


class SpectralDensity(NamedTuple):
  """The ``density`` of the eigenvalues at the points of ``grid``, both of shape (1024,)."""

  grid: jax.Array
  density: jax.Array


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
  eigenvalue is found once; all its copies are found only if the Krylov space is exhausted. Cost:
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
    ValueError, TypeError: an argument is wrong; or, outside jit, the Hessian is not finite.

  Source:
    Lanczos 1950, doi 10.6028/jres.045.026; restarts: Wu, Simon 2000, doi 10.1137/S0895479898334605.

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
  block = as_block("top_eigenvalues", grad_fn, params, mask)
  return _extreme_eigenvalues(block, 1, num, num_matvecs, basis_size, key)


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

  A negative eigenvalue shows a saddle; its eigenvector leads down. The function is
  ``top_eigenvalues`` of the negated Hessian. So except for rounding, the values are never smaller
  than the true eigenvalues. It does not find the eigenvalues close to 0 in the middle of a
  spectrum; ``spectral_density`` shows how many there are. Cost: that of ``top_eigenvalues``.

  Args:
    grad_fn, params, num, num_matvecs, basis_size, mask, key: as in ``top_eigenvalues``.

  Returns:
    ``(values, vectors)``, as ``top_eigenvalues`` does, the smallest value first.

  Raises:
    ValueError, TypeError: an argument is wrong; or, outside jit, the Hessian is not finite.

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
  block = as_block("smallest_eigenvalues", grad_fn, params, mask)
  return _extreme_eigenvalues(block, -1, num, num_matvecs, basis_size, key)


def _extreme_eigenvalues(
  block: Block, sign: int, num: Any, num_matvecs: Any, basis_size: Any, key: Any
) -> tuple[jax.Array, Params]:
  """Returns the largest eigenvalues of ``sign`` times the operator, times ``sign``."""
  name = block.method
  _arguments.check_integer(name, "num", num, minimum=1)
  check_num_matvecs(block, num_matvecs, minimum=num)
  if basis_size is not None:
    _arguments.check_integer(name, "basis_size", basis_size, minimum=num + 2)
  key = _arguments.as_key(name, key)
  num_kept = (num + (basis_size or 0)) // 2
  options = {"basis_size": basis_size, "num_kept": num_kept}
  basis, unpack = _krylov_basis(block, key, num_matvecs, sign=sign, **options)
  _results.check_finite(name, "the Hessian", basis.projected)
  values, coefficients = ritz(basis.projected)
  vectors = combine(coefficients[:, : -num - 1 : -1], basis.vectors)
  return sign * values[: -num - 1 : -1], jax.vmap(lambda v: block.embed(unpack(v)))(vectors)


def spectral_density(
  grad_fn: GradFnOrOperator,
  params: Params,
  *,
  num_matvecs: int = 64,
  num_samples: int = 8,
  mask: Mask | None = None,
  key: int | jax.Array,
) -> SpectralDensity:
  """Estimates the distribution of the eigenvalues of the Hessian.

      density(x) = mean over random vectors v of sum over i of weight_i * normal(x; node_i, width)

  For each v, Lanczos's iteration gives the nodes, which are its Ritz values, and the weights, which
  are the squared first entries of the eigenvectors of the projected matrix. ``width``, the standard
  deviation of the kernel, is 1 % of the nodes' range; its square is added to the variance.
  Cost: ``num_samples * num_matvecs`` Hessian-vector products of 2 gradients each; memory for
  ``num_matvecs`` vectors like params.

  Args:
    grad_fn: ``params -> grads``, or an operator.
    params: pytree of real floating arrays with N entries in total.
    num_matvecs: number of products, and of nodes, per random vector, from 1 to N.
    num_samples: number of random vectors, with entries +1 or -1, >= 1.
    mask: as in ``top_eigenvalues``.
    key: int or JAX key, which may be traced.

  Returns:
    ``SpectralDensity(grid, density)``. The integral of the density over the grid is 1.

  Raises:
    ValueError, TypeError: an argument is wrong; or, outside jit, the Hessian is not finite.

  Source:
    Ghorbani, Krishnan, Xiao 2019, arXiv 1901.10159, algorithms 1 and 2; Golub, Welsch 1969,
    doi 10.1090/S0025-5718-69-99647-1.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> grad_fn = jax.grad(lambda w: jnp.sum(jnp.array([1.0, 1.0, 3.0, 3.0]) * w**2) / 2)
    >>> grid, density = sharpness.spectral_density(grad_fn, jnp.zeros(4), num_matvecs=2, key=0)
    >>> round(float(jnp.trapezoid(density, grid)), 3)
    1.0
  """
  name = "spectral_density"
  block = as_block(name, grad_fn, params, mask)
  check_num_matvecs(block, num_matvecs)
  _arguments.check_integer(name, "num_samples", num_samples, minimum=1)
  nodes, weights = quadrature(block, num_matvecs, num_samples, _arguments.as_key(name, key))
  return _smooth(_results.check_finite(name, "the Hessian", nodes), weights)


def quadrature(
  block: Block, num_matvecs: int, num_samples: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns nodes and weights, of shape (num_samples, num_matvecs); weights of a row sum to 1."""

  def projected(_, key):
    return None, _krylov_basis(block, key, num_matvecs, with_signs=True)[0].projected

  keys = jax.random.split(key, num_samples)  # those of ``trace``
  nodes, coefficients = ritz(block.scan(projected, None, keys)[1])
  return nodes, jnp.square(coefficients[:, 0])


def _krylov_basis(
  block: Block, key: jax.Array, num_matvecs: int, *, sign: int = 1, **options: Any
) -> tuple[Basis, Pack]:
  """Runs Lanczos's iteration on ``sign`` times the block; also returns what unpacks its vectors."""
  leaves = block.select(block.params)
  pack, unpack = packing(leaves)
  product = lambda v: [sign * x for x in pack(block.product(unpack(v)))]
  # Computed from the leaves, whose mesh jnp.zeros_like would drop on JAX 0.12.
  zeros = pack([jnp.where(True, jnp.zeros((), x.dtype), x) for x in leaves])
  draw = lambda key: pack(normal(key, leaves))
  return lanczos(product, zeros, draw, key, num_matvecs, scan=block.scan, **options), unpack


@jax.jit  # for calls outside jit, which would compile each line
def _smooth(nodes: jax.Array, weights: jax.Array) -> SpectralDensity:
  """Returns the density with a normal kernel around each node."""
  low, high = jnp.min(nodes), jnp.max(nodes)
  # If all nodes are equal, up to rounding in float32, the range is replaced by their size, or by 1
  # if they are 0.
  size = jnp.maximum(jnp.abs(low), jnp.abs(high))
  degenerate = high - low <= 1e-5 * size
  spread = jnp.where(degenerate, jnp.where(size > 0, size, 1), high - low)
  width = _BANDWIDTH * spread
  # Distances from the lowest node, because far from 0 rounding is larger than a narrow kernel.
  grid = jnp.linspace(-5 * width, high - low + 5 * width, _POINTS, dtype=nodes.dtype)
  kernel = jnp.exp(-jnp.square((grid[:, None] - (nodes - low).ravel()) / width) / 2)
  density = kernel @ (weights.ravel() / nodes.shape[0])
  return SpectralDensity(low + grid, density / jnp.trapezoid(density, grid))
