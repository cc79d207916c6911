"""Trees like the params that a wrapper keeps in its state."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from flatopt import _tree
from flatopt._typing import Params


def from_first_update(count: jax.Array, params: Params, kept: Params) -> Params:
  """Returns ``kept``, or the params in its dtypes if this is the first update, ``count == 0``.

  The params that ``init`` gets do not count: many training loops replace them before the first
  update, by pretrained ones for example.
  """
  return _tree.where(count == 0, _tree.cast_like(params, kept), kept)


def where_ready(ready: jax.Array, kept: Params, params: Params) -> Params:
  """Returns a copy of ``kept``, or ``params`` as long as ``ready`` is 0 or False."""
  (ready,) = jax.tree.leaves(ready)  # nnx.Optimizer wraps the array in a variable
  ready = jnp.asarray(ready, bool)

  def choose(kept, param):
    # A state that was stacked by vmap has one ``ready`` for each row.
    by_row = jnp.reshape(ready, ready.shape + (1,) * (jnp.ndim(kept) - ready.ndim))
    return jnp.where(by_row, kept, param)

  return map_kept(choose, kept, params)


def map_kept(fn: Callable[..., jax.Array], kept: Params, params: Params) -> Params:
  """Maps ``fn(kept, param)`` over the leaves, with ``kept`` cast to the dtypes of the params.

  A leaf that ``trainable`` froze is not kept; the result has the param itself. The structures may
  differ in the types of nodes with one leaf, because ``nnx.Optimizer`` wraps the leaves of a state.
  """
  is_frozen = lambda x: isinstance(x, optax.MaskedNode)
  leaves, structure = jax.tree.flatten(params, is_leaf=is_frozen)
  kept_leaves = jax.tree.leaves(kept, is_leaf=is_frozen)
  if len(kept_leaves) != len(leaves):
    raise ValueError(
      f"eval_params: params has {len(leaves)} arrays, but opt_state keeps {len(kept_leaves)}; pass"
      " the params that this optimizer trains (NNX: flatopt.nnx.eval_model(opt_state, model))"
    )
  cast = lambda x, param: jnp.asarray(x, jnp.result_type(param))
  return structure.unflatten(
    param if is_frozen(x) else fn(cast(x, param), param)
    for x, param in zip(kept_leaves, leaves, strict=True)
  )
