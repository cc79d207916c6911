"""Reading optimizer states: evaluation params, metrics, cost."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flatopt import _tree
from flatopt._arguments import RESTORE_WITH_TYPES
from flatopt._typing import MethodState, Params
from flatopt.frozen import FrozenNode


def _method_states(name: str, opt_state: Any) -> list[MethodState]:
  """flatopt's states anywhere in an optimizer's state, for a function of that name."""
  found = list(_walk(opt_state))
  if not found and jax.tree.leaves(opt_state) and not _has_named_tuple(opt_state):
    raise TypeError(
      f"{name}: opt_state has lost its types: it holds {type(opt_state).__name__}s in place of"
      f" optimizer states. {RESTORE_WITH_TYPES}"
    )
  return found


def _has_named_tuple(tree: Any) -> bool:
  is_named = lambda x: isinstance(x, tuple) and hasattr(x, "_fields")
  return any(map(is_named, jax.tree.leaves(tree, is_leaf=is_named)))


def _walk(opt_state: Any) -> Iterator[MethodState]:
  """Outer before inner."""
  found = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, MethodState))
  for node in found:
    if isinstance(node, MethodState):
      yield node
      yield from _walk(tuple(node))  # pyright: ignore[reportArgumentType]


def eval_params(opt_state: optax.OptState, params: Params) -> Params:
  """The params to evaluate at: slow weights or averages where there are any, else ``params``.

  ``lookahead`` and ``sala`` keep slow weights in their state, ``momentum_sam`` the params
  that it perturbs, ``weight_average`` the average from its first step on; of nested wrappers
  the outermost decides. What comes from the state is
  copied, so that a later step may donate the state. Cost: no gradient.

  Args:
    opt_state: any optax state that may hold states of flatopt's.
    params: the params that are trained.

  Returns:
    A pytree like ``params``.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = flatopt.lookahead(optax.sgd(0.1))
    >>> w = jnp.array([1.0])
    >>> flatopt.eval_params(optimizer.init(w), w).tolist()
    [1.0]
  """
  return _first_evaluated(iter(_method_states("eval_params", opt_state)), params)


def evaluated(opt_state: optax.OptState, params: Params) -> Params:
  """``eval_params`` of any state, of which flatopt's may be no part."""
  return _first_evaluated(_walk(opt_state), params)


def _first_evaluated(states: Iterator[MethodState], params: Params) -> Params:
  for state in states:
    kept = getattr(state, "eval_params", None)
    if kept is None:
      continue
    kept = jax.tree.map(_copy_unless_frozen, kept, params, is_leaf=_is_frozen)
    ready = getattr(state, "has_eval_params", None)
    return kept if ready is None else _tree.where(ready, kept, _first_evaluated(states, params))
  return params


def _is_frozen(x: Any) -> bool:
  return isinstance(x, FrozenNode)


def _copy_unless_frozen(kept: Any, param: Any) -> Any:
  return param if _is_frozen(kept) else jnp.array(kept, jnp.result_type(param))


def metrics(
  opt_state: optax.OptState, *, group_fn: Callable[[str], str] | None = None
) -> dict[str, jax.Array]:
  """What flatopt's methods report of themselves, as scalars to log.

  Args:
    opt_state: any optax state that may hold states of flatopt's.
    group_fn: names the group of a leaf of the params by its path, such as
      ``"dense/kernel"``; methods that mask coordinates then report every group's share, as
      "<method>/flat_share/<group>".

  Returns:
    Arrays of shape () by "<method>/<quantity>"; where a method stands in the state
    several times, its keys end in "[0]", "[1]", ..., outer before inner and in the
    order of the chain. ``docs/metrics.md`` lists every key.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = optax.chain(flatopt.sam(), optax.sgd(0.1))
    >>> flatopt.metrics(optimizer.init(jnp.zeros(3)))
    {'sam/count': Array(0, dtype=int32)}
  """
  by_method = defaultdict(list)
  for state in _method_states("metrics", opt_state):
    quantities = state.metrics()
    mask = getattr(state, "flat", None)
    if group_fn is not None and mask is not None:
      quantities = quantities | _shares_by_group(mask, group_fn)
    by_method[state.method].append(quantities)
  return {
    f"{method}/{quantity}" + (f"[{i}]" if len(found) > 1 else ""): value
    for method, found in by_method.items()
    for i, quantities in enumerate(found)
    for quantity, value in quantities.items()
  }


def _shares_by_group(mask: Params, group_fn: Callable[[str], str]) -> dict[str, jax.Array]:
  leaves = defaultdict(list)
  for path, leaf in jax.tree.leaves_with_path(mask):
    leaves[group_fn(jax.tree_util.keystr(path, simple=True, separator="/"))].append(leaf)
  total = lambda sizes: sum(sizes, jnp.zeros((), jnp.float32))
  return {
    f"flat_share/{group}": total(jnp.sum(x, dtype=jnp.int32).astype(jnp.float32) for x in masks)
    / sum(x.size for x in masks)
    for group, masks in leaves.items()
  }


def extra_gradient_evaluations(opt_state: optax.OptState) -> jax.Array:
  """Gradients paid so far beyond the caller's one a step.

  Counts the closure calls of flatopt's methods and estimators, nested ones too; a
  Hessian-vector product counts 2. Estimators borrowed from elsewhere count 0. Exact
  outside ``vmap``, under which a ``cond`` that was not taken is computed all the same.

  Args:
    opt_state: any optax state that may hold states of flatopt's.

  Returns:
    int32 scalar.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = optax.chain(flatopt.sam(), optax.sgd(0.1))
    >>> int(flatopt.extra_gradient_evaluations(optimizer.init(jnp.zeros(3))))
    0
  """
  states = _method_states("extra_gradient_evaluations", opt_state)
  counts = [n for n in (state.extra_gradients for state in states) if isinstance(n, jax.Array)]
  # On the host a zero is made explicitly, so that jax.transfer_guard("disallow") lets it pass.
  return sum(counts[1:], counts[0]) if counts else jax.device_put(np.int32(0))
