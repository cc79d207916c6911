"""Loss, gradients and closure of a whole batch, one microbatch in memory at a time."""

from collections.abc import Callable
from typing import Any

import jax

from flatopt import _arguments, _results
from flatopt._typing import GradFn, Params, Value
from flatopt.closures import _microbatches


def micro_value_and_grad(
  loss_fn: Callable[[Params, Any], Value],
  num_microbatches: int,
  *,
  has_aux: bool = False,
  transform: Callable[[Params], Params] | None = None,
  unroll: int | bool = 1,
  weight_fn: Callable[[Any], jax.typing.ArrayLike] | None = None,
) -> Callable[[Params, Any], tuple[Value, Params, GradFn]]:
  """``value_and_grad`` that accumulates gradients, with one microbatch in memory at a time.

      value, grads = sum_i weight_i * (value, gradient of microbatch i) / sum_i weight_i

  The clean pass and ``grad_fn`` are means over the same microbatches, added in float32 or wider.
  Use it in place of ``optax.MultiSteps``, with which a closure sees only the last microbatch. The
  gradient at other params alone is ``lambda p: step_fn(p, batch)[1]``. Cost: one gradient of the
  whole batch, and one more per call of ``grad_fn``.

  Args:
    loss_fn: ``(params, microbatch) -> loss``, a mean over the examples of the microbatch; or
      ``(loss, aux)`` with ``has_aux``.
    num_microbatches: number of equal parts to cut the batch into, >= 1; it must divide the length
      of the batch. Example i is in part i modulo this number, so that devices that share a batch
      share every part.
    has_aux: whether ``loss_fn`` also returns an auxiliary pytree of arrays.
    transform: as in ``value_and_grad``, applied to both mean gradients.
    unroll: ``unroll`` of the ``lax.scan`` over the microbatches.
    weight_fn: function ``microbatch -> scalar``, >= 0: the weight of a microbatch, such as its
      number of tokens if the loss is a mean over tokens that are not padding. A microbatch of
      weight 0 does not count, even if its loss is NaN; if all weights are 0, value and gradients
      are NaN. ``None``: equal weights.

  Returns:
    ``step_fn(params, batch) -> (value, grads, grad_fn)``. ``batch`` is a pytree of arrays with the
    same leading axis of examples. ``value`` is the mean loss, or ``(loss, aux)`` with
    ``has_aux``; then aux (model state, metrics) is stacked along a new leading axis of length
    ``num_microbatches``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type,
      ``num_microbatches`` does not divide the length of the batch, ``loss_fn`` does not return
      what ``has_aux`` says, or ``weight_fn`` does not return a scalar.

  Example:
    >>> import jax.numpy as jnp, flatopt
    >>> loss_fn = lambda w, x: (jnp.mean((x @ w) ** 2), jnp.max(x))
    >>> step_fn = flatopt.closures.micro_value_and_grad(loss_fn, 2, has_aux=True)
    >>> w, x = jnp.ones(2), jnp.arange(8.0).reshape(4, 2)
    >>> (loss, largest), grads, grad_fn = step_fn(w, x)
    >>> float(loss), largest.tolist()
    (69.0, [5.0, 7.0])
    >>> bool(jnp.allclose(grads, grad_fn(w)))
    True
  """
  name = "micro_value_and_grad"
  _arguments.check_integer(name, "num_microbatches", num_microbatches, minimum=1)
  loss_and_aux = _results.with_aux(name, loss_fn, has_aux)

  def loss_at(params, state, microbatch):
    loss, aux = loss_and_aux(params, microbatch)
    return loss, (aux, state)

  def step_fn(params: Any, batch: Any, *others: Any, **named_others: Any) -> Any:
    if others or named_others:
      raise TypeError(
        f"{name}: step_fn takes (params, batch) and nothing else, because it cuts the batch into"
        " microbatches: put what belongs to each example into batch, and let loss_fn close over"
        " the rest: lambda params, microbatch: loss_fn(params, microbatch, key)"
      )
    loss, aux, _, grads, grad_fn = _microbatches.step(
      name,
      loss_at,
      params,
      None,
      batch,
      num_microbatches,
      transform=transform or (lambda grads: grads),
      weight_fn=weight_fn,
      unroll=unroll,
    )
    return (loss, aux) if has_aux else loss, grads, grad_fn

  return step_fn
