"""Statistics of BatchNorm at given params, for any framework with exponential running averages."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _tree
from flatopt._typing import Params

# A start value for the statistics, so large that rounding removes the batch's own statistics.
_PROBE = 2.0**40


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
    update_fn: ``(params, batch_stats, batch) -> batch_stats``: one forward pass in training
      mode, which changes the statistics to ``momentum * old + (1 - momentum) * those of the
      batch``. It is compiled.
    params: the params to evaluate at.
    batch_stats: pytree of statistics. Leaves that are not floating are returned as they are.
    batches: iterable of batches for ``update_fn``; each has the same weight.

  Returns:
    A pytree like ``batch_stats``, with a relative rounding error of about 1e-7 / (1 - momentum).

  Raises:
    ValueError: ``batches`` is empty, or ``update_fn`` does not change the statistics.

  Source:
    Izmailov et al. 2018, arXiv 1803.05407, section 3.2, recommends one more pass over the data.
    The result contains the mean of the batches' variances. As in other implementations, it does
    not contain how much the batches' means differ.

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
  return mean_statistics(functools.partial(jax.jit(update_fn), params), batch_stats, batches)


def mean_statistics(
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
        " the model in training mode and return the changed statistics (Linen:"
        " use_running_average=False, mutable=['batch_stats'])"
      )
