"""Closures that ``update`` takes: accumulated gradients, and gradients of sampled labels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _devices, _tree
from flatopt._typing import GradFn, Params, SampledGradFn


def micro_grad_fn(
  loss_fn: Callable[[Params, Any], jax.Array],
  batch: Any,
  num_microbatches: int,
  *,
  unroll: int | bool = 1,
) -> GradFn:
  """The gradient of the mean loss over a batch, one microbatch in memory at a time.

  Methods that look at the loss elsewhere need the same batch there; so accumulate inside
  the closure, with this, rather than around the optimizer with ``optax.MultiSteps``.
  Sums are kept in at least float32. Cost: one gradient of the whole batch a call.

  Args:
    loss_fn: ``(params, microbatch) -> scalar``, a mean over the microbatch's examples.
    batch: pytree of arrays with one leading axis of examples.
    num_microbatches: equal parts to cut the batch into, >= 1; divides its length. Example i
      is in part i modulo their number, so that devices that share a batch share every part.
    unroll: of the ``lax.scan`` over microbatches.

  Returns:
    ``grad_fn(params) -> grads``, grads in the params' dtype.

  Raises:
    ValueError, TypeError: a bad argument, or a length that does not divide.

  Example:
    >>> import jax, jax.numpy as jnp, flatopt
    >>> loss_fn = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> x = jnp.arange(8.0).reshape(4, 2)
    >>> grad_fn = flatopt.closures.micro_grad_fn(loss_fn, x, num_microbatches=2)
    >>> w = jnp.ones(2)
    >>> bool(jnp.allclose(grad_fn(w), jax.grad(loss_fn)(w, x)))
    True
  """
  name = "micro_grad_fn"
  _arguments.check_integer(name, "num_microbatches", num_microbatches, minimum=1)
  shapes = [jnp.shape(x) for x in jax.tree.leaves(batch)]
  if len({shape[:1] for shape in shapes} - {()}) != 1 or () in shapes:
    raise ValueError(
      f"{name}: all leaves of batch must have the same leading axis; got shapes {shapes}"
    )
  length = shapes[0][0]
  if length % num_microbatches:
    raise ValueError(
      f"{name}: num_microbatches must divide the batch's length {length}; got {num_microbatches}"
    )
  size = length // num_microbatches
  cut = lambda x: jnp.swapaxes(jnp.reshape(x, (size, num_microbatches, *x.shape[1:])), 0, 1)

  def grad_fn(params):
    def add(total, microbatch):
      grads = jax.grad(loss_fn)(params, microbatch)
      return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, grads), None

    zeros = jax.tree.map(lambda w: jnp.zeros_like(w, dtype=_tree.wide_dtype(w)), params)
    zeros = _devices.varying_like(zeros, params)
    total, _ = jax.lax.scan(add, zeros, jax.tree.map(cut, batch), unroll=unroll)
    return _tree.cast_like(optax.tree.scale(1 / num_microbatches, total), params)

  return grad_fn


def sampled_label_grad_fn(
  logits_fn: Callable[[Params, Any], jax.Array], inputs: Any
) -> SampledGradFn:
  """Gradients of the negative log likelihood of labels drawn from the model itself.

  What ``flatopt.curvature.gauss_newton_bartlett`` needs of a classifier or a language
  model. Cost: one gradient a call.

  Args:
    logits_fn: ``(params, inputs) -> logits`` of shape (..., classes), unnormalised.
    inputs: what ``logits_fn`` takes for the current batch, without labels.

  Returns:
    ``sampled_grad_fn(params, key) -> grads`` of the mean over all leading axes.

  Source:
    Liu, Li, Hall, Liang, Ma 2023 (Sophia), arXiv 2305.14342, algorithm 2.

  Example:
    >>> import jax, jax.numpy as jnp, flatopt
    >>> x = jnp.ones((4, 3))
    >>> sampled_grad_fn = flatopt.closures.sampled_label_grad_fn(lambda w, x: x @ w, x)
    >>> sampled_grad_fn(jnp.zeros((3, 2)), jax.random.key(0)).shape
    (3, 2)
  """

  def sampled_loss(params, key):
    logits = logits_fn(params, inputs)
    labels = jax.random.categorical(key, jax.lax.stop_gradient(logits))
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

  return jax.grad(sampled_loss)
