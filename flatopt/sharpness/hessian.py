"""The Hessian of a loss, by its products with vectors."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from flatopt import _arguments, _forward_mode, _tree
from flatopt._typing import Params
from flatopt.sharpness.host import HostMean
from flatopt.sharpness.operator import MeanOverIterable, Operator

_REMEDY = 'pass sharpness.hessian(grad_fn, mode="reverse-reverse") as grad_fn'


def hessian(grad_fn: Callable[..., Params], *, mode: str = "forward-reverse") -> Operator:
  """The Hessian as an operator, where a measure's default for a ``grad_fn`` will not do.

      H v = the derivative of grad_fn at params along v

  Every measure that takes a ``grad_fn`` takes this instead, and makes ``hessian(grad_fn)`` of
  a ``grad_fn`` itself. Cost of a product: 2 gradients.

  Outside jit, a measure is compiled once for the same function objects and options, and the
  programs of the last 16 functions are kept. Each call of ``jax.grad`` and each lambda is
  another function: make ``grad_fn`` once, outside the loop over epochs. Where it closes over an
  array and that name is bound to another one, the measure is compiled anew; a measure under a
  jit of your own that takes the batch as an argument is not. What it reads off objects
  (``self.batch``) must not change, as under ``jax.jit``.

  Args:
    grad_fn: ``params -> grads``, or ``over_iterable(batch_grad_fn, batches)``. With a second
      argument, ``(params, batch) -> grads``, the operator is for ``over_batches`` and
      ``over_iterable``.
    mode: "forward-reverse" (``jax.jvp`` of the gradient), or "reverse-reverse"
      (``jax.vjp``) for models whose custom gradients have no forward mode.

  Returns:
    An operator. Those of the same function and mode are equal and share programs.

  Raises:
    ValueError, TypeError: a bad argument.

  Source:
    Pearlmutter 1994, doi 10.1162/neco.1994.6.1.147.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> operator = sharpness.hessian(jax.grad(lambda w: jnp.sum(w**3)), mode="reverse-reverse")
    >>> float(sharpness.trace(operator, jnp.array([1.0, 2.0]), key=0).mean)
    18.0
  """
  _forward_mode.check_mode("hessian", mode)
  if not callable(grad_fn):
    raise TypeError(f"hessian: grad_fn must be a function; got {_arguments.describe(grad_fn)}")
  if isinstance(grad_fn, HostMean):
    return MeanOverIterable(Hessian(grad_fn.fn, mode), grad_fn.batches)
  return Hessian(grad_fn, mode)


@dataclasses.dataclass(frozen=True)
class Hessian(Operator):
  """What ``hessian`` makes."""

  grad_fn: Callable[..., Params]
  mode: str

  def product(self, method: str, params: Params, vector: Params, *batch: Any) -> Params:
    grad_fn = lambda w: self.grad_fn(w, *batch)
    if self.mode == "forward-reverse":
      grads, product = _forward_mode.jvp(method, _REMEDY, grad_fn, (params,), (vector,))
      _arguments.check_gradients(method, "grad_fn", grads, params)
      return product
    grads, vjp = jax.vjp(grad_fn, params)
    _arguments.check_gradients(method, "grad_fn", grads, params)
    return vjp(_tree.cast_like(vector, grads))[0]
