"""Means over random draws: the trace of the Hessian, and how far the loss rises under noise."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flatopt import _arguments, _results, _tree
from flatopt._typing import Mask, Params
from flatopt.sharpness import vectors
from flatopt.sharpness.block import as_block
from flatopt.sharpness.host import scan
from flatopt.sharpness.operators import GradFnOrOperator


class Estimate(NamedTuple):
  """The ``mean`` of independent draws and its ``standard_error``, both of shape ()."""

  mean: jax.Array
  standard_error: jax.Array


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
  the Hessian. Cost: 2 gradients per sample, with one sample in memory at a time.

  Args:
    grad_fn: ``params -> grads``, or an operator.
    params: pytree of real floating arrays.
    num_samples: number of random vectors, >= 1.
    mask: as in ``top_eigenvalues``.
    key: int or JAX key, which may be traced.

  Returns:
    ``Estimate(mean, standard_error)``.

  Raises:
    ValueError, TypeError: an argument is wrong; or, outside jit, the Hessian is not finite.

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
  block = as_block("trace", grad_fn, params, mask)

  def quadratic_form(_, key):
    v = vectors.signs(key, block.select(block.params))
    return None, _tree.dot(v, block.product(v))

  keys = jax.random.split(_arguments.as_key("trace", key), num_samples)
  _, forms = block.scan(quadratic_form, None, keys)
  return _estimate(_results.check_finite("trace", "the Hessian", forms))


def average(
  loss_fn: Callable[[Params], jax.Array],
  params: Params,
  *,
  sigma: jax.typing.ArrayLike,
  num_samples: int = 16,
  key: int | jax.Array,
) -> Estimate:
  """Estimates the mean increase of the loss under Gaussian noise on all params.

      mean over num_samples draws of loss_fn(w + sigma * z) - loss_fn(w)     z: standard normal

  At a minimum and for small ``sigma``, this is about ``sigma^2 / 2`` times the trace of the
  Hessian. Cost: ``num_samples + 1`` losses, no gradient.

  Args:
    loss_fn: ``params -> scalar``.
    params: pytree of real floating arrays.
    sigma: standard deviation of the noise, in units of the params, >= 0.
    num_samples: number of draws, >= 1.
    key: int or JAX key, which may be traced.

  Returns:
    ``Estimate(mean, standard_error)``.

  Raises:
    ValueError, TypeError: an argument is wrong; or, outside jit, the loss is not finite there.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> flat, sharp = (lambda w: jnp.sum(w**2)), (lambda w: 10 * jnp.sum(w**2))
    >>> w = jnp.zeros(100)
    >>> a, b = (sharpness.average(loss, w, sigma=0.1, key=0) for loss in (flat, sharp))
    >>> round(float(b.mean / a.mean))
    10
  """
  _arguments.check_number("average", "sigma", sigma, low=0)
  _arguments.check_integer("average", "num_samples", num_samples, minimum=1)
  _arguments.check_params("average", params)
  _arguments.check_closure("average", "loss_fn", loss_fn)
  params = jax.tree.map(jnp.asarray, params)
  keys = jax.random.split(_arguments.as_key("average", key), num_samples + 1)
  # The first loss is the one at the params themselves: so the loss is compiled once.
  scales = jnp.full(num_samples + 1, sigma, _tree.wide_dtype(*jax.tree.leaves(params))).at[0].set(0)

  def noisy_loss(_, scale_and_key):
    scale, key = scale_and_key
    noise = vectors.normal(key, params)
    at = _tree.map_wide(lambda s, w, z: w + s * z, (scale,), params, noise)
    return None, _results.check_scalar("average", loss_fn(at))

  _, losses = scan(loss_fn, noisy_loss, None, (scales, keys))
  _results.check_finite("average", "the loss", losses[0])
  return _estimate(losses[1:] - losses[0])


def _estimate(draws: jax.Array) -> Estimate:
  """Makes an estimate from draws of shape (n,); if n = 1, the standard error is infinite."""
  n = draws.shape[0]
  if n == 1:
    return Estimate(draws[0], jnp.full((), jnp.inf, draws.dtype))
  return Estimate(jnp.mean(draws), jnp.std(draws, ddof=1) / n**0.5)
