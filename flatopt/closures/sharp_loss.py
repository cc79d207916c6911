"""A loss whose gradient is that of a sharpness-aware method, for loops that are not yours."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import optax

from flatopt import _arguments, _results
from flatopt._typing import Args, Params, Value
from flatopt.closures import _own_gradient
from flatopt.gradients.asam import AsamState
from flatopt.gradients.sam import SamState, sam


def sharp_loss(
  loss_fn: Callable[Args, Value],
  method: optax.GradientTransformation | None = None,
  *,
  has_aux: bool = False,
) -> Callable[Args, Value]:
  """Makes a loss with the same value, whose gradient is the output of a sharpness-aware method.

      value:                                  loss_fn(params, ...)
      derivative with respect to params:      method's output: grad_fn(params + eps) for sam
      derivative with respect to the others:  that of loss_fn at params

  Use it where a library owns the training loop and calls ``optimizer.update`` without closures:
  give it this loss, and an optimizer without the method. It is for losses to be minimised, never
  for log densities to be sampled from. Cost: two gradients where it is differentiated with
  respect to params, one forward pass where it is only evaluated.

  Args:
    loss_fn: ``(params, *args, **kwargs) -> loss``, a real floating scalar; or ``(loss, aux)`` with
      ``has_aux``. Leaves of ``params`` that are not floating pass through.
    method: ``flatopt.sam(...)`` or ``flatopt.asam(...)``, also with a mask of the floating leaves or
      an ``ascent`` that keeps no state; ``None``: ``flatopt.sam()``. Other methods keep a state
      between steps, for which there is no place here; nor is there one for a schedule's count.
    has_aux: whether ``loss_fn`` also returns aux. Aux is not differentiated.

  Returns:
    A function with the signature of ``loss_fn``, for ``jax.grad``, ``jax.value_and_grad``,
    ``jax.jacfwd`` and everything built on them.

  Raises:
    TypeError: ``method`` is another one, ``loss_fn`` does not return a scalar, or this function is
      differentiated twice.

  Example:
    >>> import jax, jax.numpy as jnp, flatopt
    >>> loss_fn = lambda w: jnp.sum(w**4)
    >>> sharp_loss = flatopt.closures.sharp_loss(loss_fn, flatopt.sam(rho=0.1))
    >>> loss, grads = jax.value_and_grad(sharp_loss)(jnp.array([1.0]))
    >>> print(float(loss), round(float(grads[0]), 5))  # 4 * 1.1**3
    1.0 5.324
  """
  loss_and_aux = _results.with_aux("sharp_loss", loss_fn, has_aux)
  method = sam() if method is None else method
  _arguments.check_transformation("sharp_loss", "method", method)
  init, update = method.init, optax.with_extra_args_support(method).update

  @functools.wraps(loss_fn, updated=())  # JAX and NNX look arguments up by their names
  def loss_with_sharp_gradient(params, *args, **kwargs):
    is_weight = _own_gradient.is_inexact
    weights = jax.tree.map(lambda x: x if is_weight(x) else None, params)
    frozen = jax.tree.map(lambda x: None if is_weight(x) else x, params)
    _check_method(init, weights)
    arrays, fill = _arrays_of((frozen, args, kwargs))
    fill_aux = []

    def evaluate(weights, arrays):
      frozen, args, kwargs = fill(arrays)
      either = lambda w, x: x if w is None else w
      params = jax.tree.map(either, weights, frozen, is_leaf=lambda x: x is None)
      loss, aux = loss_and_aux(params, *args, **kwargs)
      aux, fill_last = _arrays_of(aux)
      fill_aux[:] = [fill_last]
      return _results.check_scalar("sharp_loss", loss), aux

    def method_output(grad_fn, weights, grads):
      step = _arguments.NO_STEP
      return update(grads, init(weights), weights, grad_fn=grad_fn, step=step)[0]

    loss, aux = _own_gradient.with_gradient(evaluate, method_output, weights, arrays)
    return (loss, fill_aux[0](aux)) if has_aux else loss

  return cast(Callable[Args, Value], loss_with_sharp_gradient)


def _arrays_of(tree: Any) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
  """Returns the arrays of the tree, and a function that puts others in their place.

  Everything else (flags, names, functions) stays as it is, so that the loss may branch on it.
  """
  leaves, structure = jax.tree.flatten(tree)
  is_array = [isinstance(x, jax.Array) for x in leaves]

  def fill(arrays):
    new = iter(arrays)
    return structure.unflatten(
      next(new) if on else x for x, on in zip(leaves, is_array, strict=True)
    )

  return [x for x, on in zip(leaves, is_array, strict=True) if on], fill


def _check_method(init: Callable[[Params], Any], params: Params) -> None:
  """Raises an error if the state of the method says more than how often it was called."""
  state = jax.eval_shape(init, params)
  name = "a chain" if type(state) is tuple else getattr(state, "method", type(state).__name__)
  if isinstance(state, SamState) and jax.tree.leaves(state.ascent):
    name = "sam with an ascent that keeps a state"
  elif isinstance(state, SamState | AsamState):
    return
  raise TypeError(
    "sharp_loss: method must be flatopt.sam or flatopt.asam, whose output depends on no earlier"
    f" step; got {name}. Put this one into the optimizer, as optax.chain(method, base_optimizer),"
    " and pass grad_fn in a loop of your own: update(grads, state, params, grad_fn=grad_fn)"
  )
