"""Worst-case sharpness: the loss where SAM would look for it, and further up from there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _perturbation, _tree
from flatopt._typing import Params
from flatopt.sharpness.host import fori_loop, value_and_grad
from flatopt.sharpness.programs import run


def ascent(
  loss_fn: Callable[[Params], jax.Array],
  params: Params,
  *,
  rho: jax.typing.ArrayLike,
  num_steps: int = 1,
  eta: jax.typing.ArrayLike | None = None,
) -> jax.Array:
  """The loss's increase under the worst perturbation that gradient ascent finds in a ball.

      eps = T z,  ||z|| <= rho
      z <- project(z + rho * T g / ||T g||),  g = the gradient at w + T z,  z from 0
      loss_fn(w + eps) - loss_fn(w)

  ``T`` is 1, or with ``eta`` ASAM's ``|w| + eta`` on all leaves but biases, which a rescaling
  of layers does not change. One step is SAM's, or ASAM's, own perturbation; of several, the
  largest increase that they meet is returned. Can be jitted; outside jit it is
  compiled once for the same ``loss_fn`` object (see ``hessian``). Cost: ``num_steps`` gradients
  and a loss.

  Args:
    loss_fn: ``params -> scalar``.
    params: pytree of real floating arrays.
    rho: radius, >= 0, in units of the params' l2 norm; with ``eta`` relative to the weights.
    num_steps: ascent steps, >= 1.
    eta: ``None`` for the l2 ball, a number >= 0 for the adaptive one.

  Returns:
    Scalar in the loss's dtype. A zero gradient gives 0.

  Raises:
    ValueError, TypeError: a bad argument; outside jit, a loss that is not finite at ``params``.

  Source:
    Foret et al. 2020, arXiv 2010.01412, equation 2; Kwon et al. 2021, arXiv 2102.11600,
    equation 3; projected steps after Andriushchenko et al. 2023, arXiv 2302.07011.

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
  _arguments.check_closures("ascent", params, loss_fn=loss_fn)
  params = jax.tree.map(jnp.asarray, params)
  start, increase = run(loss_fn, _increase, (loss_fn, num_steps), params, rho, eta)
  _arguments.check_finite("ascent", "the loss", start)
  return increase


def _increase(
  loss_fn: Callable, num_steps: int, params: Params, rho: Any, eta: Any
) -> tuple[jax.Array, jax.Array]:
  """The loss at the params, and its largest increase."""
  scale = jax.tree.map(lambda w: jnp.ones_like(w, dtype=_tree.wide_dtype(w)), params)
  if eta is not None:
    scale = _perturbation.adaptive_scale(params, eta, None)
  losses_and_grads = value_and_grad(loss_fn)
  start = _arguments.check_scalar("ascent", loss_fn(params))

  def perturbed(z):
    return jax.tree.map(lambda w, t, x: (w + t * x).astype(w.dtype), params, scale, z)

  def step(i, carry):
    z, largest = carry
    loss, grads = losses_and_grads(perturbed(z))
    # The loss at z = 0 does not count: where one step goes down, so does the result.
    largest = jnp.where(i > 1, jnp.maximum(largest, loss), loss)
    direction = jax.tree.map(lambda t, g: t * g.astype(t.dtype), scale, grads)
    z, _ = _perturbation.perturb(z, direction, rho)
    return _project(z, rho), largest

  zeros = jax.tree.map(jnp.zeros_like, scale)
  z, largest = fori_loop(loss_fn, num_steps, step, (zeros, start))
  last = loss_fn(perturbed(z))
  return start, (last if num_steps == 1 else jnp.maximum(largest, last)) - start


def _project(z: Params, rho: jax.typing.ArrayLike) -> Params:
  """Onto the ball of radius ``rho``."""
  norm = _tree.norm(z)
  outside = norm > rho
  shrink = jnp.where(outside, jnp.asarray(rho, norm.dtype) / jnp.where(outside, norm, 1), 1)
  return _tree.map_wide(lambda s, x: s * x, (shrink,), z)
