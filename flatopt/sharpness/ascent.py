"""Worst-case sharpness: how far the loss rises within a ball around the params."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flatopt import _arguments, _perturbation, _results, _tree
from flatopt._typing import Params
from flatopt.sharpness.host import scan, value_and_grad


def ascent(
  loss_fn: Callable[[Params], jax.Array],
  params: Params,
  *,
  rho: jax.typing.ArrayLike,
  num_steps: int = 1,
  eta: jax.typing.ArrayLike | None = None,
) -> jax.Array:
  """Returns the largest increase of the loss that gradient ascent finds in a ball of radius rho.

      z starts at 0; num_steps times, with the gradient g at w + T z:
        z <- project(z + rho * T g / ||T g||)    onto ||z|| <= rho
      output: the largest loss_fn(w + T z) - loss_fn(w) after a step

  ``T`` is 1. With ``eta`` it is ASAM's ``|w| + eta`` on all leaves except biases; then the result
  does not change if you rescale the layers of a network that computes the same function. With one
  step the perturbation is that of SAM, or of ASAM. Cost: ``num_steps`` gradients and 1 loss.

  Args:
    loss_fn: ``params -> scalar``.
    params: pytree of real floating arrays.
    rho: radius, >= 0, in units of the params' global l2 norm; with ``eta``, relative to weights.
    num_steps: number of ascent steps, >= 1.
    eta: ``None``: the l2 ball; a number >= 0: the adaptive ball of ASAM.

  Returns:
    A scalar in the dtype of the loss. It is 0 if the gradient is 0.

  Raises:
    ValueError, TypeError: an argument is wrong; or, outside jit, the loss is not finite there.

  Source:
    Foret et al. 2020, arXiv 2010.01412, equation 2; Kwon et al. 2021, arXiv 2102.11600,
    equation 3; several projected steps as in Andriushchenko et al. 2023, arXiv 2302.07011.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> loss_fn = lambda w: jnp.sum(jnp.array([1.0, 9.0]) * w**2) / 2
    >>> round(float(sharpness.ascent(loss_fn, jnp.array([1.0, 0.0]), rho=0.1)), 4)
    0.105
  """
  _arguments.check_number("ascent", "rho", rho, low=0)
  _arguments.check_integer("ascent", "num_steps", num_steps, minimum=1)
  if eta is not None:
    _arguments.check_number("ascent", "eta", eta, low=0)
  _arguments.check_params("ascent", params)
  _arguments.check_closure("ascent", "loss_fn", loss_fn)
  params = jax.tree.map(jnp.asarray, params)
  scale = jax.tree.map(lambda w: jnp.ones_like(w, dtype=_tree.wide_dtype(w)), params)
  if eta is not None:
    scale = _perturbation.adaptive_scale(params, eta, None)
  loss_and_grad_fn = value_and_grad("ascent", loss_fn)

  def perturbed(z):
    return jax.tree.map(lambda w, t, x: (w + t * x).astype(w.dtype), params, scale, z)

  def step(z, _):
    loss, grads = loss_and_grad_fn(perturbed(z))
    direction = jax.tree.map(lambda t, g: t * g.astype(t.dtype), scale, grads)
    z, _ = _perturbation.perturb(z, direction, rho)
    return _project(z, rho), loss

  zeros = jax.tree.map(jnp.zeros_like, scale)
  z, losses = scan(loss_fn, step, zeros, jnp.arange(num_steps))
  start = _results.check_finite("ascent", "the loss", losses[0])
  # The loss at z = 0 does not count, so the result is negative if every step lowers the loss.
  return jnp.max(jnp.append(losses[1:], loss_fn(perturbed(z)))) - start


def _project(z: Params, rho: jax.typing.ArrayLike) -> Params:
  """Projects ``z`` onto the ball of radius ``rho``."""
  norm = _tree.norm(z)
  outside = norm > rho
  shrink = jnp.where(outside, jnp.asarray(rho, norm.dtype) / jnp.where(outside, norm, 1), 1)
  return _tree.map_wide(lambda s, x: s * x, (shrink,), z)
