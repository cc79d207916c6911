"""Equinox: gradients, closures and losses over the floating arrays of a model.

This module needs equinox. ``import flatopt`` does not import it.
"""

from collections.abc import Callable
from typing import Any, Concatenate

try:
  import equinox as eqx
except ModuleNotFoundError as error:
  message = "flatopt.equinox needs equinox: pip install 'flatopt[equinox]'"
  raise ModuleNotFoundError(message) from error

from flatopt import _results, closures
from flatopt._typing import Args, GradFn, Params, Value
from flatopt.closures import sharp_loss as sharp_loss


def value_and_grad(
  loss_fn: Callable[Concatenate[Params, Args], Value],
  *,
  has_aux: bool = False,
  transform: Callable[[Params], Params] | None = None,
) -> Callable[Concatenate[Params, Args], tuple[Value, Params, GradFn]]:
  """``eqx.filter_value_and_grad`` that also returns ``grad_fn``, the gradient at other params.

  Params and gradients are like ``eqx.filter(model, eqx.is_inexact_array)``: floating arrays, and
  None for everything else. Cost: one gradient, and one more per call of ``grad_fn``.

  Args:
    loss_fn: ``(model, *args, **kwargs) -> loss``, or ``(loss, aux)`` with ``has_aux``. If the
      model has a state, pass the ``eqx.nn.State`` as an argument and return the new one in aux.
    has_aux, transform: as in ``flatopt.closures.value_and_grad``.

  Returns:
    ``step_fn(model, *args, **kwargs) -> (value, grads, grad_fn)``. ``value`` is the loss, or
    ``(loss, aux)`` with ``has_aux``.

  Raises:
    TypeError: ``has_aux`` is not a bool, or ``loss_fn`` does not return what it says.

  Example:
    >>> import equinox as eqx, jax, jax.numpy as jnp, optax, flatopt
    >>> import flatopt.equinox
    >>> model = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    >>> params = eqx.filter(model, eqx.is_inexact_array)
    >>> optimizer = optax.chain(flatopt.sam(), optax.sgd(0.1))
    >>> step_fn = flatopt.equinox.value_and_grad(
    ...   lambda model, x: jnp.mean((jax.vmap(model)(x) - 1) ** 2)
    ... )
    >>> loss, grads, grad_fn = step_fn(model, jnp.eye(2))
    >>> updates, _ = optimizer.update(grads, optimizer.init(params), params, grad_fn=grad_fn)
    >>> model = eqx.apply_updates(model, updates)
    >>> bool(step_fn(model, jnp.eye(2))[0] < loss)
    True
  """
  loss_and_aux = _results.with_aux("equinox.value_and_grad", loss_fn, has_aux)

  def step_fn(model: Any, *args: Any, **kwargs: Any) -> Any:
    params, static = eqx.partition(model, eqx.is_inexact_array)
    loss_at = lambda params: loss_and_aux(eqx.combine(params, static), *args, **kwargs)
    value, *others = closures.value_and_grad(loss_at, has_aux=True, transform=transform)(params)
    return value if has_aux else value[0], *others

  return step_fn
