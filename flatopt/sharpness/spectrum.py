"""The density of the Hessian's eigenvalues, by stochastic Lanczos quadrature."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flatopt import _arguments, _results
from flatopt._typing import Mask, Params
from flatopt.sharpness.block import Block, as_block, check_num_matvecs
from flatopt.sharpness.host import map_over
from flatopt.sharpness.lanczos import lanczos, ritz
from flatopt.sharpness.operator import GradFnOrOperator
from flatopt.sharpness.programs import run
from flatopt.sharpness.trace import signs

_POINTS = 1024
_BANDWIDTH = 0.01  # standard deviation of the kernel, as a share of the spectrum's range


class SpectralDensity(NamedTuple):
  """The ``density`` of the eigenvalues at the points of ``grid``, both of shape (1024,)."""

  grid: jax.Array
  density: jax.Array


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
  deviation of the kernel, is 1 % of the range of the nodes; its square is added to the variance
  of the density. You can jit it. Outside jit it is compiled once for the same ``grad_fn`` object
  (see ``hessian``). Cost: ``num_samples * num_matvecs`` Hessian-vector products of 2 gradients
  each; memory for ``num_matvecs`` vectors like params.

  Args:
    grad_fn: ``params -> grads``, or an operator.
    params: pytree of real floating arrays with N entries in total.
    num_matvecs: number of products, and of nodes, per random vector, from 1 to N.
    num_samples: number of random vectors, with entries +1 or -1, >= 1.
    mask: bool pytree, a prefix of it, or a callable ``params -> bool pytree``. The Hessian is taken
      with respect to the leaves that are True; the others are constants. N counts only these
      leaves. ``None``: all leaves.
    key: int or JAX key, which may be traced.

  Returns:
    ``SpectralDensity(grid, density)``. The integral of the density over the grid is 1.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type; or, outside jit, the
      Hessian is not finite.

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
  block, params = as_block(name, grad_fn, params, mask)
  check_num_matvecs(block, num_matvecs, params)
  _arguments.check_integer(name, "num_samples", num_samples, minimum=1)
  key = _arguments.as_key(name, key)
  nodes, density = run(block.operator, _density, (block, num_matvecs, num_samples), params, key)
  _results.check_finite(name, "the Hessian", nodes)
  return density


def _density(
  block: Block, num_matvecs: int, num_samples: int, params: Params, key: jax.Array
) -> tuple[jax.Array, SpectralDensity]:
  """Returns the nodes, which are finite if the operator is, and the density."""
  nodes, weights = quadrature(block, num_matvecs, num_samples, params, key)
  return nodes, _smooth(nodes, weights)


def quadrature(
  block: Block, num_matvecs: int, num_samples: int, params: Params, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns nodes and weights, of shape (num_samples, num_matvecs); weights of a row sum to 1."""

  def nodes_and_weights(key):
    start = signs(key, block.select(params))
    matvec = lambda v: block.product(v, params)
    nodes, coefficients = ritz(lanczos(block.operator, matvec, start, key, num_matvecs))
    return nodes, jnp.square(coefficients[0])

  return map_over(block.operator, nodes_and_weights, jax.random.split(key, num_samples))


@jax.jit  # for measures that loop on the host, which are not compiled as a whole
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
