"""Average-case sharpness: how far the loss rises under random noise on the params."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _results, _tree
from flatopt._typing import Params
from flatopt.sharpness.estimate import Estimate, estimate
from flatopt.sharpness.host import map_over
from flatopt.sharpness.programs import run


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
  Hessian. You can jit it. Outside jit it is compiled once for the same ``loss_fn`` object (see
  ``hessian``). Cost: ``num_samples + 1`` losses, no gradient.

  Args:
    loss_fn: ``params -> scalar``.
    params: pytree of real floating arrays.
    sigma: standard deviation of the noise, in units of the params, >= 0.
    num_samples: number of draws, >= 1.
    key: int or JAX key, which may be traced.

  Returns:
    ``Estimate(mean, standard_error)``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type; or, outside jit, the
      loss is not finite at ``params``.

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
  _arguments.check_closures("average", params, loss_fn=loss_fn)
  params = jax.tree.map(jnp.asarray, params)
  key = _arguments.as_key("average", key)
  start, draws = run(loss_fn, _increases, (loss_fn, num_samples), params, sigma, key)
  _results.check_finite("average", "the loss", start)
  return estimate(draws)


def _increases(
  loss_fn: Callable, num_samples: int, params: Params, sigma: Any, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the loss at the params, and its increase for each draw of the noise."""
  start = _results.check_scalar("average", loss_fn(params))

  def draw(key):
    wide = jax.tree.map(lambda w: jnp.asarray(w, _tree.wide_dtype(w)), params)
    noise = optax.tree.random_like(key, wide, jax.random.normal)
    return loss_fn(_tree.map_wide(lambda s, w, z: w + s * z, (sigma,), params, noise)) - start

  return start, map_over(loss_fn, draw, jax.random.split(key, num_samples))
