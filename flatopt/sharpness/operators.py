"""Symmetric matrices that depend on the params: the Hessian, and the Gauss-Newton matrix."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from flatopt import _arguments, _results, _tree
from flatopt._typing import GradFn, Params
from flatopt.sharpness.host import HostMean


class Operator(abc.ABC):
  """A symmetric matrix that depends on the params, given by its products with vectors.

  ``hessian`` and ``gauss_newton`` make operators, and so do ``over_batches`` and ``over_iterable``
  of an operator. All but the last are pytrees: you can pass them to a jitted function.
  """

  on_host = False  # True if a product needs a loop on the host, which cannot be traced

  @abc.abstractmethod
  def product(self, params: Params, vector: Params, *batch: Any) -> Params:
    """Returns the matrix at ``params`` times ``vector``.

    Args:
      params: pytree of real floating arrays.
      vector: a pytree like params, with the same dtypes.
      batch: the batch, if the functions of the operator take one as their last argument.

    Returns:
      A pytree like params.
    """


GradFnOrOperator: TypeAlias = GradFn | Operator


def hessian(grad_fn: Callable[..., Params], *, mode: str = "forward-reverse") -> Operator:
  """Makes the Hessian as an operator, for the measures of ``flatopt.sharpness``.

      H v = the derivative of grad_fn at params along v

  A measure that gets a ``grad_fn`` makes ``hessian(grad_fn)`` itself. Call this only for another
  ``mode``, or the method ``product(params, vector)``. Cost: 2 gradients per product.

  Args:
    grad_fn: ``params -> grads``, or ``over_iterable(batch_grad_fn, batches)``. For ``over_batches``
      and ``over_iterable``, give it the batch as a second argument: ``(params, batch) -> grads``.
    mode: "forward-reverse" (``jax.jvp`` of the gradient), or "reverse-reverse" (``jax.vjp``) for
      models whose custom gradients have no forward mode.

  Returns:
    An operator.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Source:
    Pearlmutter 1994, doi 10.1162/neco.1994.6.1.147.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> operator = sharpness.hessian(jax.grad(lambda w: jnp.sum(w**3)), mode="reverse-reverse")
    >>> operator.product(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0]))
    Array([ 6., 12.], dtype=float32)
  """
  check_mode("hessian", mode)
  _arguments.check_closure("hessian", "grad_fn", grad_fn)
  if isinstance(grad_fn, HostMean):
    return MeanOverIterable(grad_fn, HESSIAN_PRODUCTS[mode])
  return Hessian(grad_fn, mode)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hessian(Operator):
  """The operator that ``hessian`` makes."""

  grad_fn: Callable[..., Params] = dataclasses.field(metadata={"static": True})
  mode: str = dataclasses.field(metadata={"static": True})

  def product(self, params: Params, vector: Params, *batch: Any) -> Params:
    return HESSIAN_PRODUCTS[self.mode](self.grad_fn, params, vector, *batch)


def _forward_reverse(grad_fn: Callable, params: Params, vector: Params, *batch: Any) -> Params:
  return jax.jvp(lambda w: grad_fn(w, *batch), (params,), (vector,))[1]


def _reverse_reverse(grad_fn: Callable, params: Params, vector: Params, *batch: Any) -> Params:
  with explained("hessian"):
    grads, vjp = jax.vjp(lambda w: grad_fn(w, *batch), params)
    _results.check_gradients("hessian", "grad_fn", grads, params)
    return vjp(_tree.cast_like(vector, grads))[0]


HESSIAN_PRODUCTS = {"forward-reverse": _forward_reverse, "reverse-reverse": _reverse_reverse}


def check_mode(method: str, mode: Any) -> None:
  """Checks the argument ``mode``, which selects how a product is differentiated."""
  if mode not in (modes := tuple(HESSIAN_PRODUCTS)):
    raise ValueError(f"{method}: mode must be one of {modes}; got {_arguments.describe(mode)}")


@contextlib.contextmanager
def explained(method: str, remedy: str = "") -> Iterator[None]:
  """Adds what to do to JAX's errors about derivatives; ``remedy`` is that for forward mode.

  Under ``jit`` JAX raises its own error about a ``custom_vjp`` function, when it compiles.
  """
  try:
    yield
  except (TypeError, ValueError) as error:
    if "(jvp) to a custom_vjp function" in str(error):
      reason = f"JAX cannot differentiate a custom_vjp function in forward mode; {remedy}"
    elif "Reverse-mode differentiation does not work" in str(error):
      reason = (
        "JAX cannot differentiate a loop of unknown length in reverse mode; use"
        ' mode="forward-reverse"; with Diffrax, solve with adjoint=diffrax.DirectAdjoint(), or with'
        " ForwardMode() and jax.jacfwd(loss_fn) in place of jax.grad(loss_fn)"
      )
    else:
      raise
    raise type(error)(f"{method}: {reason}") from error


def gauss_newton(
  logits_fn: Callable[..., Any],
  loss_fn: Callable[..., jax.Array],
  *,
  mode: str = "forward-reverse",
) -> Operator:
  """Makes the Gauss-Newton matrix as an operator: the Hessian without the model's own curvature.

      G v = J' H_L J v        J: the derivative of logits_fn at params
                              H_L: the Hessian of loss_fn at the logits

  The Hessian of the loss is the sum of G and a term with the second derivatives of the model. That
  term is 0 if the model is linear, or if the derivative of the loss by the logits is 0. If the loss
  is convex in the logits, as cross entropy and squared error are, then G has no negative
  eigenvalues. For cross entropy, G is the Fisher information. All measures that take a ``grad_fn``
  accept this operator in its place. Cost: less than 2 gradients per product.

  Args:
    logits_fn: ``params -> logits`` for one batch; the logits are any pytree of floating arrays.
    loss_fn: ``logits -> scalar`` for the same batch; it contains the labels. For ``over_batches``
      and ``over_iterable``, give both functions the batch as their last argument:
      ``(params, batch) -> logits`` and ``(logits, batch) -> scalar``.
    mode: "forward-reverse" (``jax.jvp``), or "reverse-reverse" (only ``jax.vjp``) for models and
      losses whose custom gradients have no forward mode.

  Returns:
    An operator.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type.

  Source:
    Schraudolph 2002, doi 10.1162/08997660260028683.

  Example:
    >>> import jax.numpy as jnp
    >>> from flatopt import sharpness
    >>> inputs, targets = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> logits_fn = lambda w: inputs @ w
    >>> loss_fn = lambda logits: jnp.sum((logits - targets) ** 2) / 2
    >>> operator = sharpness.gauss_newton(logits_fn, loss_fn)
    >>> float(sharpness.trace(operator, jnp.zeros(2), key=0).mean)
    5.0
  """
  check_mode("gauss_newton", mode)
  for name, fn in (("logits_fn", logits_fn), ("loss_fn", loss_fn)):
    _arguments.check_closure("gauss_newton", name, fn)
  return GaussNewton(logits_fn, loss_fn, mode)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussNewton(Operator):
  """The operator that ``gauss_newton`` makes."""

  logits_fn: Callable[..., Any] = dataclasses.field(metadata={"static": True})
  loss_fn: Callable[..., jax.Array] = dataclasses.field(metadata={"static": True})
  mode: str = dataclasses.field(metadata={"static": True})

  def product(self, params: Params, vector: Params, *batch: Any) -> Params:
    logits_fn = lambda w: self.logits_fn(w, *batch)
    loss_fn = lambda z: _results.check_scalar("gauss_newton", self.loss_fn(z, *batch))
    logits, transposed = jax.vjp(logits_fn, params)
    _check_logits(logits)
    if self.mode == "forward-reverse":
      tangent = jax.jvp(logits_fn, (params,), (vector,))[1]
      return transposed(jax.jvp(jax.grad(loss_fn), (logits,), (tangent,))[1])[0]
    # J is the transpose of the linear map u -> J' u, and H_L is symmetric, so vjps are enough.
    zeros = jax.tree.map(jnp.zeros_like, logits)
    with explained("gauss_newton"):
      (tangent,) = jax.vjp(lambda u: transposed(u)[0], zeros)[1](vector)
      return transposed(jax.vjp(jax.grad(loss_fn), logits)[1](tangent)[0])[0]


def _check_logits(logits: Any) -> None:
  for path, leaf in jax.tree_util.tree_leaves_with_path(logits):
    if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
      raise TypeError(
        f"gauss_newton: the result of logits_fn{jax.tree_util.keystr(path)} is"
        f" {jnp.result_type(leaf)}; logits must be real floating arrays: return these alone"
      )


@dataclasses.dataclass(frozen=True, eq=False)
class MeanOverIterable(Operator):
  """The mean of an operator over batches, by a loop on the host."""

  mean: HostMean
  product_fn: Callable[..., Params]  # (the function of the mean, params, vector, batch) -> product
  on_host = True

  def product(self, params: Params, vector: Params, *batch: Any) -> Params:
    return self.mean.mean(self.product_fn, params, vector)
