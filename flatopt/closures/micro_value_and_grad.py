"""Loss, gradients and closure of a whole batch, one microbatch in memory at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _devices, _results
from flatopt._typing import GradFn, Params
from flatopt.closures import _microbatches


def micro_value_and_grad(
  loss_fn: Callable[[Params, Any], Any],
  num_microbatches: int,
  *,
  has_aux: bool = False,
  transform: Callable[[Params], Params] | None = None,
  unroll: int | bool = 1,
) -> Callable[[Params, Any], tuple[Any, Params, GradFn]]:
  """``value_and_grad`` that accumulates gradients, with one microbatch in memory at a time.

  The clean pass and ``grad_fn`` are means over the same microbatches. Use it in place of
  ``optax.MultiSteps``, with which a closure sees only the last microbatch. Gradients are added in
  float32 or wider. Cost: one gradient of the whole batch, and one more per call of ``grad_fn``.

  Args:
    loss_fn: ``(params, microbatch) -> loss``, a mean over the examples of the microbatch; or
      ``(loss, aux)`` with ``has_aux``.
    num_microbatches: number of equal parts to cut the batch into, >= 1; it must divide the length
      of the batch. Example i is in part i modulo this number, so that devices that share a batch
      share every part.
    has_aux: whether ``loss_fn`` also returns an auxiliary pytree of arrays.
    transform: function ``grads -> grads`` that is applied to both mean gradients: clipping, casts,
      unscaling, ``pmean``.
    unroll: ``unroll`` of the ``lax.scan`` over the microbatches.

  Returns:
    ``step_fn(params, batch) -> (value, grads, grad_fn)``. ``batch`` is a pytree of arrays with the
    same leading axis of examples. ``value`` is the mean loss, or ``(loss, aux)`` with
    ``has_aux``; then aux is stacked along a new leading axis of length ``num_microbatches``.

  Raises:
    ValueError, TypeError: an argument is out of range or of the wrong type,
      ``num_microbatches`` does not divide the length of the batch, or ``loss_fn`` does not return
      what ``has_aux`` says.

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
  _arguments.check_flag(name, "has_aux", has_aux)
  loss_fn = _results.with_checked_aux(name, loss_fn, has_aux)
  transform = transform or (lambda grads: grads)
  clean_pass = jax.value_and_grad(loss_fn, has_aux=has_aux)

  def perturbed_pass(params: Params, microbatch: Any) -> tuple[None, Params]:
    grads = jax.grad(loss_fn, has_aux=has_aux)(params, microbatch)
    return None, grads[0] if has_aux else grads

  def step_fn(
    params: Params, batch: Any, *others: Any, **named_others: Any
  ) -> tuple[Any, Params, GradFn]:
    if others or named_others:
      raise TypeError(
        f"{name}: step_fn takes (params, batch) and nothing else, because it cuts the batch into"
        " microbatches: put what belongs to each example into batch, and let loss_fn close over"
        " the rest: lambda params, microbatch: loss_fn(params, microbatch, key)"
      )
    microbatches = _microbatches.cut(name, "batch", batch, num_microbatches)

    def grad_fn(p: Params) -> Params:
      # Inside shard_map the first gradient is per device if the params vary; so must this one be.
      p = _devices.varying_like(p, params)
      return transform(_microbatches.mean_gradient(perturbed_pass, p, microbatches, unroll)[1])

    values, grads = _microbatches.mean_gradient(clean_pass, params, microbatches, unroll)
    value = (jnp.mean(values[0]), values[1]) if has_aux else jnp.mean(values)
    return value, transform(grads), grad_fn

  return step_fn
