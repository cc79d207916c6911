"""Flax Linen: a train state that passes closures on to the optimizer, and batch statistics.

This module needs flax. ``import flatopt`` does not import it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, Self

import jax
import jax.numpy as jnp
import optax

try:
  from flax.linen.fp8_ops import OVERWRITE_WITH_GRADIENT
  from flax.training import train_state
except ModuleNotFoundError as error:
  message = "flatopt.linen needs flax: pip install 'flatopt[flax]'"
  raise ModuleNotFoundError(message) from error

from flatopt import _arguments, _method, _tree
from flatopt._typing import Params

# A start value for the statistics, so large that rounding removes the batch's own statistics.
_PROBE = 2.0**40


class TrainState(train_state.TrainState):
  """``flax.training.train_state.TrainState`` whose ``apply_gradients`` passes closures on.

  Flax's own ``apply_gradients`` does not pass extra arguments such as ``grad_fn`` on to
  ``tx.update``. Use this class in its place.

  Example:
    >>> import jax, jax.numpy as jnp, optax, flatopt
    >>> import flatopt.linen
    >>> loss_fn = lambda params: jnp.sum(params["w"] ** 4)
    >>> state = flatopt.linen.TrainState.create(
    ...   apply_fn=None,
    ...   params={"w": jnp.ones(2)},
    ...   tx=optax.chain(flatopt.sam(0.1), optax.sgd(0.01)),
    ... )
    >>> grad_fn = jax.grad(loss_fn)
    >>> state = state.apply_gradients(grads=grad_fn(state.params), grad_fn=grad_fn)
    >>> int(state.step)
    1
  """

  def apply_gradients(self, *, grads: Params, **kwargs: Any) -> Self:
    """Takes one step of the optimizer.

    Args:
      grads: gradients of the clean pass, a pytree like ``params``. As in Flax, a collection
        ``_overwrite_with_gradient`` (float8) replaces that of the params and is not optimized.
      **kwargs: an argument with the name of a field of this class (``batch_stats=...``) replaces
        that field; all others (``grad_fn=...``, ``sampled_grad_fn=...``) go to ``tx.update``.
        Closures are functions of all ``params``.

    Returns:
      The state after the step, with new ``step``, ``params`` and ``opt_state``.
    """
    fields = {field.name for field in dataclasses.fields(self)}
    replaced = {name: value for name, value in kwargs.items() if name in fields}
    extra_args = {name: value for name, value in kwargs.items() if name not in fields}
    if OVERWRITE_WITH_GRADIENT in grads:
      whole = lambda params: {**self.params, "params": params}
      extra_args = _method.closures_of_part(extra_args, whole, lambda grads: grads["params"])
    tx = optax.with_extra_args_support(self.tx)
    bound = optax.GradientTransformation(tx.init, functools.partial(tx.update, **extra_args))
    state = super(TrainState, self.replace(tx=bound)).apply_gradients(grads=grads, **replaced)
    return state.replace(tx=self.tx)


def batch_statistics(
  update_fn: Callable[[Params, Any, Any], Any],
  params: Params,
  batch_stats: Any,
  batches: Iterable[Any],
) -> Any:
  """Computes new statistics of BatchNorm at ``params``: the mean of the statistics of each batch.

  Running averages of BatchNorm belong to the params of training. If you evaluate at other params
  (``eval_params``: averages or slow weights), you need new statistics. The result does not depend
  on the momentum of the layers, nor on the values in ``batch_stats``. Cost: one forward pass per
  batch, and one more for the first batch.

  Args:
    update_fn: ``(params, batch_stats, batch) -> batch_stats``: one forward pass in training mode,
      which makes the statistics ``momentum * old + (1 - momentum) * the batch's``. It is compiled.
    params: the params to evaluate at.
    batch_stats: pytree of statistics. Leaves that are not floating are returned as they are.
    batches: iterable of batches for ``update_fn``; each has the same weight.

  Returns:
    A pytree like ``batch_stats``, with a relative rounding error of about 1e-7 / (1 - momentum).

  Raises:
    ValueError: ``batches`` is empty, or ``update_fn`` does not change the statistics.

  Source:
    Izmailov et al. 2018, arXiv 1803.05407, section 3.2, recommends one more pass over the data. The
    result contains the mean of the batches' variances. As in other implementations, it does not
    contain how much the batches' means differ.

  Example:
    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> import flatopt.linen
    >>> model = nn.BatchNorm(use_running_average=False)
    >>> batches = [jnp.array([[1.0], [3.0]]), jnp.array([[4.0], [8.0]])]
    >>> variables = model.init(jax.random.key(0), batches[0])
    >>> def update_fn(params, batch_stats, x):
    ...   variables = {"params": params, "batch_stats": batch_stats}
    ...   return model.apply(variables, x, mutable=["batch_stats"])[1]["batch_stats"]
    >>> stats = flatopt.linen.batch_statistics(
    ...   update_fn, variables["params"], variables["batch_stats"], batches
    ... )
    >>> jax.tree.map(lambda x: round(float(x[0]), 4), stats)  # of means 2, 6 and variances 1, 4
    {'mean': 4.0, 'var': 2.5}
  """
  return _mean_statistics(functools.partial(jax.jit(update_fn), params), batch_stats, batches)


def _mean_statistics(
  update_fn: Callable[[Any, Any], Any], batch_stats: Any, batches: Iterable[Any]
) -> Any:
  """``batch_statistics`` for ``update_fn(batch_stats, batch)``, which is not compiled here."""

  def run(value, batch):
    # In a wide dtype, because 1 - momentum is a small difference.
    start = jax.tree.map(
      lambda x: jnp.full_like(x, value, _tree.wide_dtype(x)) if _is_statistic(x) else x, batch_stats
    )
    return update_fn(start, batch)

  total, share, num_batches = None, None, 0
  for batch in batches:
    own = run(0.0, batch)  # (1 - momentum) * the batch's
    if total is None:
      share = jax.tree.map(lambda a, b: 1 - (a - b) / _PROBE, run(_PROBE, batch), own)
      _check_moved(share, batch_stats)
    total = own if total is None else jax.tree.map(jnp.add, total, own)
    num_batches += 1
  if total is None:
    raise ValueError("batch_statistics: batches is empty; it needs a batch")

  def mean(was, total, share):
    return (total / num_batches / share).astype(was.dtype) if _is_statistic(was) else was

  return jax.tree.map(mean, batch_stats, total, share)


def _is_statistic(x: Any) -> bool:
  return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _check_moved(share: Any, batch_stats: Any) -> None:
  """Checks that ``update_fn`` changed every statistic; ``share`` is 1 - momentum."""
  _arguments.check_same_tree("batch_statistics", "the result of update_fn", share, batch_stats)
  for path, leaf in jax.tree_util.tree_leaves_with_path(share):
    if _is_statistic(leaf) and bool(jnp.any(leaf == 0)):
      raise ValueError(
        f"batch_statistics: update_fn leaves batch_stats{jax.tree_util.keystr(path)} as it is; run"
        " the model in training mode and return the changed statistics (NNX: call model.train()"
        " first; Linen: use_running_average=False, mutable=['batch_stats'])"
      )
