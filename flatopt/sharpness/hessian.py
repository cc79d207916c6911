"""The Hessian of a loss, as an operator."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from flatopt import _arguments, _forward_mode, _results, _tree
from flatopt._typing import Params
from flatopt.sharpness.host import HostMean
from flatopt.sharpness.operator import MeanOverIterable, Operator

_REMEDY = 'pass sharpness.hessian(grad_fn, mode="reverse-reverse") as grad_fn'


def hessian(grad_fn: Callable[..., Params], *, mode: str = "forward-reverse") -> Operator:
  """Makes the Hessian as an operator, for the measures of ``flatopt.sharpness``.

      H v = the derivative of grad_fn at params along v

  A measure that gets a ``grad_fn`` makes ``hessian(grad_fn)`` itself. Call this function only if
  you need another ``mode``. Cost: 2 gradients per product.

  Outside jit, a measure is compiled once for the same function objects and options. The compiled
  programs of the last 16 functions are kept. Each call of ``jax.grad`` and each lambda makes
  another function object, so make ``grad_fn`` once, outside the loop over epochs. If ``grad_fn``
  reads a variable that holds an array, or a dict, list or tuple of arrays, and you bind that name
  to other arrays, then the measure is compiled again. To avoid this, put the measure into a jit of
  your own that takes the batch as an argument. Nothing else that ``grad_fn`` reads may change, as
  under ``jax.jit``: a Python number, an attribute (``self.batch``), or a variable of the module
  that is read by another function which ``grad_fn`` calls. A change goes unnoticed.

  Args:
    grad_fn: ``params -> grads``, or ``over_iterable(batch_grad_fn, batches)``. For
      ``over_batches`` and ``over_iterable``, give it the batch as a second argument:
      ``(params, batch) -> grads``.
    mode: "forward-reverse" (``jax.jvp`` of the gradient), or "reverse-reverse" (``jax.vjp``) for
      models whose custom gradients have no forward mode.

  Returns:
    An operator. Operators of the same function and mode are equal and share compiled programs.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

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
  """The operator that ``hessian`` makes."""

  grad_fn: Callable[..., Params]
  mode: str

  def product(self, method: str, params: Params, vector: Params, *batch: Any) -> Params:
    grad_fn = lambda w: self.grad_fn(w, *batch)
    if self.mode == "forward-reverse":
      grads, product = _forward_mode.jvp(method, _REMEDY, grad_fn, (params,), (vector,))
      _results.check_gradients(method, "grad_fn", grads, params)
      return product
    grads, vjp = jax.vjp(grad_fn, params)
    _results.check_gradients(method, "grad_fn", grads, params)
    return vjp(_tree.cast_like(vector, grads))[0]
