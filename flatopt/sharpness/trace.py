"""The trace of the Hessian, or of another operator, by Hutchinson's estimator."""

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _results, _tree
from flatopt._typing import Mask, Params
from flatopt.sharpness.block import Block, as_block
from flatopt.sharpness.estimate import Estimate, estimate
from flatopt.sharpness.host import map_over
from flatopt.sharpness.operator import GradFnOrOperator
from flatopt.sharpness.programs import run


def trace(
  grad_fn: GradFnOrOperator,
  params: Params,
  *,
  num_samples: int = 32,
  mask: Mask | None = None,
  key: int | jax.Array,
) -> Estimate:
  """Estimates the trace of the Hessian, which is the sum of all its eigenvalues.

      mean over num_samples draws of v' H v        v: independent random entries, +1 or -1

  It is unbiased. The variance of one draw is twice the sum of the squared off-diagonal entries of
  the Hessian. You can jit it. Outside jit it is compiled once for the same ``grad_fn`` object (see
  ``hessian``). Cost: 2 gradients per sample, with one sample in memory at a time.

  Args:
    grad_fn: ``params -> grads``, or an operator.
    params: pytree of real floating arrays.
    num_samples: number of random vectors, >= 1.
    mask: bool pytree, a prefix of it, or a callable ``params -> bool pytree``. The Hessian is taken
      with respect to the leaves that are True; the others are constants. ``None``: all leaves.
    key: int or JAX key, which may be traced.

  Returns:
    ``Estimate(mean, standard_error)``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type; or, outside jit, the
      Hessian is not finite.

  Source:
    Hutchinson 1990, doi 10.1080/03610919008812866.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> grad_fn = jax.grad(lambda w: jnp.sum(jnp.array([1.0, 2.0]) * w**2))
    >>> float(sharpness.trace(grad_fn, jnp.zeros(2), key=0).mean)
    6.0
  """
  _arguments.check_integer("trace", "num_samples", num_samples, minimum=1)
  block, params = as_block("trace", grad_fn, params, mask)
  key = _arguments.as_key("trace", key)
  draws = run(block.operator, _draws, (block, num_samples), params, key)
  return estimate(_results.check_finite("trace", "the Hessian", draws))


def _draws(block: Block, num_samples: int, params: Params, key: jax.Array) -> jax.Array:
  """Returns ``v' H v`` for each random vector v."""

  def draw(key):
    v = signs(key, block.select(params))
    return _tree.dot(v, block.product(v, params))

  return map_over(block.operator, draw, jax.random.split(key, num_samples))


def signs(key: jax.Array, params: Params) -> Params:
  """Draws independent entries +1 or -1, a pytree like params."""
  v = optax.tree.random_like(key, params, jax.random.rademacher, dtype=jnp.int8)
  return _tree.cast_like(v, params)
