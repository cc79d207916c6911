"""Batch statistics at given params, for any framework whose running averages are exponential."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from flatopt import _arguments, _tree
from flatopt._typing import Params

# So large that a batch's own statistics are lost beside it.
_PROBE = 2.0**40


def batch_statistics(
  update_fn: Callable[[Params, Any, Any], Any],
  params: Params,
  batch_stats: Any,
  batches: Iterable[Any],
) -> Any:
  """The mean of every batch's own statistics at ``params``, whatever the layers' momentum.

  Running averages belong to the params that they were gathered at; where others are
  evaluated (``eval_params``: averages, slow weights), they have to be estimated anew. Each
  batch is run through once, the first one twice. The statistics that come in do not matter.

  Args:
    update_fn: ``(params, batch_stats, batch) -> batch_stats``: one pass in training mode,
      in which statistics become ``momentum * old + (1 - momentum) * the batch's``. It is
      compiled here.
    params: the params to evaluate at.
    batch_stats: pytree of statistics; leaves that are not floating stay as they are.
    batches: iterable of what ``update_fn`` takes as its batch; all of them count alike.

  Returns:
    A pytree like ``batch_stats``, exact but for about 1e-7 / (1 - momentum) of rounding.

  Raises:
    ValueError: no batch, or statistics that ``update_fn`` leaves as they are.

  Source:
    Izmailov et al. 2018, arXiv 1803.05407, section 3.2, asks for one more pass over the data.
    An average of variances, as everywhere: it leaves out how the batches' means differ.

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
    >>> jax.tree.map(lambda x: round(float(x[0]), 4), stats)  # means 2 and 6, variances 1 and 4
    {'mean': 4.0, 'var': 2.5}
  """
  update_fn = jax.jit(update_fn)

  def run(value, batch):
    """Widened, since 1 - momentum is a small difference."""
    start = jax.tree.map(
      lambda x: jnp.full_like(x, value, _tree.wide_dtype(x)) if _is_statistic(x) else x, batch_stats
    )
    return update_fn(params, start, batch)

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
  _arguments.check_same_tree("batch_statistics", "the result of update_fn", share, batch_stats)
  for path, leaf in jax.tree_util.tree_leaves_with_path(share):
    if _is_statistic(leaf) and bool(jnp.any(leaf == 0)):
      raise ValueError(
        f"batch_statistics: update_fn leaves batch_stats{jax.tree_util.keystr(path)} as it is; run"
        " the model in training mode and return what it changed (Linen:"
        " use_running_average=False, mutable=['batch_stats'])"
      )
