"""Loss, gradients and the closure that belongs to them, from one call."""

from collections.abc import Callable
from typing import Any, Concatenate

import jax

from flatopt import _devices, _results
from flatopt._typing import Args, GradFn, Params, Value


def value_and_grad(
  loss_fn: Callable[Concatenate[Params, Args], Value],
  *,
  has_aux: bool = False,
  transform: Callable[[Params], Params] | None = None,
) -> Callable[Concatenate[Params, Args], tuple[Value, Params, GradFn]]:
  """``jax.value_and_grad`` that also returns ``grad_fn``, the gradient at other params.

      grad_fn(p) = transform(gradient of loss_fn(p, *args, **kwargs))

  ``grad_fn`` uses the same batch and the same keys as the first gradient. Cost: one gradient, and
  one more per call of ``grad_fn``.

  Args:
    loss_fn: ``(params, *args, **kwargs) -> loss``, or ``(loss, aux)`` with ``has_aux``.
    has_aux: as in ``jax.value_and_grad``. ``grad_fn`` drops aux: statistics are of the clean pass.
    transform: function ``grads -> grads`` that is applied to both gradients: clipping, casts,
      unscaling, ``pmean``. Do not change ``grads`` afterwards: ``grad_fn`` would not follow.

  Returns:
    ``step_fn(params, *args, **kwargs) -> (value, grads, grad_fn)``. ``value`` is the loss, or
    ``(loss, aux)`` with ``has_aux``.

  Raises:
    TypeError: ``has_aux`` is not a bool, or ``loss_fn`` does not return what it says.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = optax.chain(flatopt.sam(0.1), optax.sgd(0.1))
    >>> step_fn = flatopt.closures.value_and_grad(lambda w, x: jnp.mean((x @ w - 1) ** 2))
    >>> w, x = jnp.zeros(2), jnp.eye(2)
    >>> loss, grads, grad_fn = step_fn(w, x)
    >>> updates, _ = optimizer.update(grads, optimizer.init(w), w, grad_fn=grad_fn)
    >>> float(loss), grads.tolist()
    (1.0, [-1.0, -1.0])
  """
  loss_and_aux = _results.with_aux("value_and_grad", loss_fn, has_aux)
  change = transform or (lambda grads: grads)

  def step_fn(params: Any, *args: Any, **kwargs: Any) -> Any:
    def grad_fn(p):
      # Inside shard_map the first gradient is per device if the params vary; so must this one be.
      p = _devices.varying_like(p, params)
      return change(jax.grad(loss_and_aux, has_aux=True)(p, *args, **kwargs)[0])

    (loss, aux), grads = jax.value_and_grad(loss_and_aux, has_aux=True)(params, *args, **kwargs)
    return (loss, aux) if has_aux else loss, change(grads), grad_fn

  return step_fn
