"""The density of the Hessian's eigenvalues, by stochastic Lanczos quadrature."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flatopt import _arguments
from flatopt._typing import Mask, Params
from flatopt.sharpness.block import Block, as_block, check_num_matvecs
from flatopt.sharpness.host import map_over
from flatopt.sharpness.lanczos import lanczos, ritz
from flatopt.sharpness.operator import GradFnOrOperator
from flatopt.sharpness.programs import run
from flatopt.sharpness.trace import signs

_POINTS = 1024
_BANDWIDTH = 0.01  # of the kernel, as a share of the spectrum's range


class SpectralDensity(NamedTuple):
  """``density`` of the eigenvalues at the points of ``grid``, both of shape (1024,)."""

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
  """Estimates how the Hessian's eigenvalues are distributed.

      density(x) = mean over probes v of sum over i of weight_i * normal(x; node_i, width)

  Nodes and weights are the Gauss quadrature of v's spectral measure: the Ritz values of
  Lanczos's iteration from v, and the squared first entries of their vectors. The kernel is 1 %
  of the range of the nodes wide, and adds the square of that to the variance. Can be jitted;
  outside jit it is compiled once for the same ``grad_fn`` object (see ``hessian``).
  Cost: ``num_samples * num_matvecs`` Hessian-vector products of 2 gradients each, and
  ``num_matvecs`` vectors like params in memory.

  Args:
    grad_fn: ``params -> grads``, or an operator.
    params: pytree of N real floating entries.
    num_matvecs: products a probe, from 1 to N: nodes of its quadrature.
    num_samples: probes of entries +1 or -1, >= 1.
    mask: bool pytree, a prefix of one, or ``params -> bool pytree``: the leaves whose
      eigenvalues are meant, the others being held fixed; N counts the entries of these.
      ``None``: all.
    key: int or JAX key, which may be traced.

  Returns:
    ``SpectralDensity(grid, density)``; the density integrates to 1 over the grid.

  Raises:
    ValueError, TypeError: a bad argument; a Hessian that is not finite, outside jit.

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
  _arguments.check_finite(name, "the Hessian", nodes)
  return density


def _density(
  block: Block, num_matvecs: int, num_samples: int, params: Params, key: jax.Array
) -> tuple[jax.Array, SpectralDensity]:
  nodes, weights = quadrature(block, num_matvecs, num_samples, params, key)
  return nodes, _smooth(nodes, weights)


def quadrature(
  block: Block, num_matvecs: int, num_samples: int, params: Params, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Nodes and weights, both (num_samples, num_matvecs); each probe's weights sum to 1."""

  def of_probe(key):
    start = signs(key, block.select(params))
    matvec = lambda v: block.product(v, params)
    nodes, coefficients = ritz(lanczos(block.operator, matvec, start, key, num_matvecs))
    return nodes, jnp.square(coefficients[0])

  return map_over(block.operator, of_probe, jax.random.split(key, num_samples))


@jax.jit  # also where the loops are on the host
def _smooth(nodes: jax.Array, weights: jax.Array) -> SpectralDensity:
  low, high = jnp.min(nodes), jnp.max(nodes)
  # A spectrum of one point, up to float32's rounding, has no range: its own size stands in, or 1
  # at zero.
  size = jnp.maximum(jnp.abs(low), jnp.abs(high))
  degenerate = high - low <= 1e-5 * size
  spread = jnp.where(degenerate, jnp.where(size > 0, size, 1), high - low)
  width = _BANDWIDTH * spread
  # Distances from the lowest node: a narrow kernel far from 0 would be lost in rounding.
  grid = jnp.linspace(-5 * width, high - low + 5 * width, _POINTS, dtype=nodes.dtype)
  kernel = jnp.exp(-jnp.square((grid[:, None] - (nodes - low).ravel()) / width) / 2)
  density = kernel @ (weights.ravel() / nodes.shape[0])
  return SpectralDensity(low + grid, density / jnp.trapezoid(density, grid))
