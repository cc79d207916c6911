"""Loss, gradients and closure of a whole batch, one microbatch in memory at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _devices, _results, _tree
from flatopt._typing import GradFn, Params, Value

# (params, state, microbatch) -> (loss, (aux, state)); the state goes on to the next microbatch.
LossAt = Callable[[Params, Any, Any], tuple[jax.Array, tuple[Any, Any]]]
WeightFn = Callable[[Any], jax.typing.ArrayLike]


def micro_value_and_grad(
  loss_fn: Callable[[Params, Any], Value],
  num_microbatches: int,
  *,
  has_aux: bool = False,
  transform: Callable[[Params], Params] | None = None,
  unroll: int | bool = 1,
  weight_fn: WeightFn | None = None,
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
      of the batch. Example i is in part i modulo it: devices that share a batch share all parts.
    has_aux: whether ``loss_fn`` also returns an auxiliary pytree of arrays.
    transform: as in ``value_and_grad``, applied to both mean gradients.
    unroll: ``unroll`` of the ``lax.scan`` over the microbatches.
    weight_fn: function ``microbatch -> scalar``, >= 0: the weight of a microbatch, such as its
      number of tokens if the loss is a mean over tokens that are not padding. A microbatch of
      weight 0 does not count, even if its loss is NaN; if all weights are 0, value and gradients
      are NaN. ``None``: equal weights.

  Returns:
    ``step_fn(params, batch) -> (value, grads, grad_fn)``. ``batch`` is a pytree of arrays with the
    same leading axis of examples. ``value`` is the mean loss, or ``(loss, aux)`` with ``has_aux``;
    aux (model state, metrics) gets a new leading axis of length ``num_microbatches``.

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
    check_only_a_batch(name, "params", *others, **named_others)
    loss, aux, _, grads, grad_fn = microbatch_step(
      name, loss_at, params, None, batch, num_microbatches, transform, weight_fn, unroll
    )
    return (loss, aux) if has_aux else loss, grads, grad_fn

  return step_fn


def check_only_a_batch(name: str, first: str, *others: Any, **named_others: Any) -> None:
  """Checks that ``step_fn`` got nothing after the batch."""
  if others or named_others:
    raise TypeError(
      f"{name}: step_fn takes ({first}, batch) and nothing else, because it cuts the batch into"
      " microbatches: put what belongs to each example into batch (x and y: as a tuple), and let"
      f" loss_fn close over the rest: lambda {first}, microbatch: loss_fn({first}, microbatch, key)"
    )


def cut(name: str, argument: str, batch: Any, num_microbatches: int) -> Any:
  """Returns the microbatches, stacked. Example i is in microbatch i modulo their number.

  So if a batch is split over devices, every microbatch is too, and nothing has to be gathered.
  """
  _arguments.check_integer(name, "num_microbatches", num_microbatches, minimum=1)
  shapes = [jnp.shape(x) for x in jax.tree.leaves(batch)]
  if len({shape[:1] for shape in shapes} - {()}) != 1 or () in shapes:
    raise ValueError(
      f"{name}: all leaves of {argument} must have the same leading axis; got shapes {shapes}"
    )
  length = shapes[0][0]
  if length % num_microbatches:
    raise ValueError(
      f"{name}: num_microbatches must divide the length {length} of {argument};"
      f" got {num_microbatches}"
    )
  size = length // num_microbatches
  return jax.tree.map(
    lambda x: jnp.swapaxes(jnp.reshape(x, (size, num_microbatches, *x.shape[1:])), 0, 1), batch
  )


def microbatch_step(
  name: str,
  loss_at: LossAt,
  params: Params,
  state: Any,
  batch: Any,
  num_microbatches: int,
  transform: Callable[[Params], Params] | None,
  weight_fn: WeightFn | None = None,
  unroll: int | bool = 1,
) -> tuple[jax.Array, Any, Any, Params, GradFn]:
  """Returns loss, stacked aux, new state, gradients and ``grad_fn``, which repeats the pass."""
  microbatches = cut(name, "batch", batch, num_microbatches)
  weights = _weights(name, weight_fn, microbatches)
  change = transform or (lambda grads: grads)

  def without_aux(params, state, microbatch):
    loss, (_, state) = loss_at(params, state, microbatch)
    return loss, (None, state)

  def grad_fn(p: Params) -> Params:
    # Inside shard_map the first gradient is per device if the params vary; so must this one be.
    p = _devices.varying_like(p, params)
    return change(accumulate(without_aux, p, state, microbatches, weights, unroll)[-1])

  loss, aux, moved, grads = accumulate(loss_at, params, state, microbatches, weights, unroll)
  return loss, aux, moved, change(grads), grad_fn


def accumulate(
  loss_at: LossAt,
  params: Params,
  state: Any,
  microbatches: Any,
  weights: jax.Array,
  unroll: int | bool,
) -> tuple[jax.Array, Any, Any, Params]:
  """Returns the mean loss, stacked aux, the last state, and the mean gradients.

  The means are weighted and are added up in float32 or wider.
  """
  clean_pass = jax.value_and_grad(loss_at, has_aux=True)
  sum_of_weights = jnp.sum(weights)

  def add(carry, part):
    total, state = carry
    microbatch, weight = part
    (loss, (aux, state)), grads = clean_pass(params, state, microbatch)

    def add_leaf(t, g):
      return t + _weighted(weight, sum_of_weights, g.astype(t.dtype))

    return (jax.tree.map(add_leaf, total, grads), state), (loss, aux)

  zeros = jax.tree.map(lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w)), params)
  carry, parts = (_devices.varying_like(zeros, params), state), (microbatches, weights)
  if len(weights) == 1:
    # Even when unrolled, a scan keeps XLA from sharing this pass with functional SAM's.
    carry, outputs = add(carry, jax.tree.map(lambda x: x[0], parts))
    losses, aux = jax.tree.map(lambda x: jnp.asarray(x)[None], outputs)
  else:
    carry, (losses, aux) = jax.lax.scan(add, carry, parts, unroll=unroll)
  total, state = carry
  wide = losses.astype(_tree.wide_dtype(losses))
  loss = jnp.sum(_weighted(weights, sum_of_weights, wide)).astype(losses.dtype)
  return loss, aux, state, _tree.cast_like(total, params)


def _weights(name: str, weight_fn: WeightFn | None, microbatches: Any) -> jax.Array:
  """Returns one weight per microbatch; integers stay exact."""
  num_microbatches = len(jax.tree.leaves(microbatches)[0])
  if weight_fn is None:
    return jnp.ones(num_microbatches, jnp.int32)
  weights = jnp.asarray(jax.lax.map(weight_fn, microbatches))
  if weights.shape != (num_microbatches,):
    raise TypeError(f"{name}: weight_fn must return a scalar; got shape {weights.shape[1:]}")
  is_floating = jnp.issubdtype(weights.dtype, jnp.floating)
  return weights.astype(_tree.wide_dtype(weights) if is_floating else jnp.int32)


def _weighted(weight: jax.Array, sum_of_weights: jax.Array, x: jax.Array) -> jax.Array:
  """Returns the part of ``x`` in the mean. It is 0 if the weight is 0, even if x is not finite."""
  share = weight.astype(x.dtype) / sum_of_weights.astype(x.dtype)
  return jnp.where(share == 0, 0, share * x)
