"""Functions that read an optimizer state: params for evaluation, metrics, extra gradients."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flatopt import _tree
from flatopt._arguments import RESTORE_WITH_TYPES
from flatopt._typing import Params


def _method_states(name: str, opt_state: Any) -> list[Any]:
  """Returns the states of flatopt's methods in ``opt_state``; ``name`` is for error messages."""
  found = list(walk(opt_state))
  if not found and jax.tree.leaves(opt_state) and not _has_named_tuple(opt_state):
    raise TypeError(
      f"{name}: opt_state holds no optimizer state: it consists of {type(opt_state).__name__}s. If"
      " it is the params or the model, pass the optimizer's state in its place; otherwise it has"
      f" lost its types. {RESTORE_WITH_TYPES}"
    )
  return found


def _has_named_tuple(tree: Any) -> bool:
  """Whether a tree contains a NamedTuple, as every optimizer state does."""
  is_named = lambda x: isinstance(x, tuple) and hasattr(x, "_fields")
  return any(map(is_named, jax.tree.leaves(tree, is_leaf=is_named)))


def walk(opt_state: Any) -> Iterator[Any]:
  """Yields the states of flatopt's methods, an outer state before the states inside it.

  These have ``method``, the public name; ``extra_gradients`` so far, without those of the states
  inside; and ``metrics()``, scalars by name. They may have ``eval_params(params)``, which returns
  the params to evaluate at, and ``flat``, a bool mask like the params.
  """
  is_method_state = lambda x: hasattr(x, "extra_gradients")
  for node in filter(is_method_state, jax.tree.leaves(opt_state, is_leaf=is_method_state)):
    yield node
    yield from walk(tuple(node))


def eval_params(opt_state: optax.OptState, params: Params) -> Params:
  """Returns the params to evaluate at: slow weights or averages if there are any, else ``params``.

  ``lookahead`` and ``sala`` keep slow weights in their state, ``weight_average`` keeps the average
  once it has one, and ``momentum_sam`` keeps the perturbation, which is taken off ``params``. If
  wrappers are nested, the outermost one decides. Before the first update the result is ``params``.
  Weights from the state are copied, so a later step may donate the state. Cost: no gradient.

  Args:
    opt_state: the state of any optax optimizer, with or without methods of flatopt.
    params: the params that are trained.

  Returns:
    A pytree like ``params``.

  Raises:
    TypeError: the arguments are swapped, or the state has lost its types (see ``metrics``).
    ValueError: the state keeps another number of arrays than ``params`` has.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = flatopt.lookahead(optax.sgd(0.1))
    >>> w = jnp.array([1.0])
    >>> flatopt.eval_params(optimizer.init(w), w).tolist()
    [1.0]
  """
  if next(walk(params), None) is not None:
    raise TypeError(
      "eval_params: params is an optimizer state, so the arguments are swapped: write"
      " eval_params(opt_state, params)"
    )
  _method_states("eval_params", opt_state)
  return eval_params_of(opt_state, params)


def eval_params_of(opt_state: optax.OptState, params: Params) -> Params:
  """``eval_params`` without the checks of its arguments."""
  for state in walk(opt_state):
    if has_them := getattr(state, "eval_params", None):
      return has_them(params)
  return params


def where_ready(ready: Any, kept: Params, params: Params) -> Params:
  """Returns a copy of ``kept``, or ``params`` as long as ``ready`` is 0 or False."""
  ready = jnp.asarray(_unwrap(ready), bool)

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
  return structure.unflatten(
    param if is_frozen(x) else fn(_tree.cast_like(x, param), param)
    for x, param in zip(kept_leaves, leaves, strict=True)
  )


def metrics(
  opt_state: optax.OptState, *, group_fn: Callable[[str], str] | None = None
) -> dict[str, jax.Array]:
  """Returns the scalars that flatopt's methods report about themselves, ready to log.

  You can call it inside or outside ``jit``. Cost: no gradient.

  Args:
    opt_state: the state of any optax optimizer, with or without methods of flatopt.
    group_fn: function from the path of a leaf of the params, such as ``"dense/kernel"``, to the
      name of a group. With it, IRE also reports the share of flat coordinates in each group, as
      ``"<method>/flat_share/<group>"``.

  Returns:
    A dictionary from ``"<method>/<quantity>"`` to arrays of shape (). If a method occurs several
    times in the state, its keys end in ``[0]``, ``[1]``, ..., in the order of the chain and an
    outer method before an inner one. The page Metrics of the documentation lists all keys.

  Raises:
    TypeError: the state has lost its types, as in a checkpoint restored without a target.

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
    f"{method}/{quantity}" + (f"[{i}]" if len(found) > 1 else ""): _unwrap(value)
    for method, found in by_method.items()
    for i, quantities in enumerate(found)
    for quantity, value in quantities.items()
  }


def _unwrap(scalar: Any) -> jax.Array:
  """Returns the array, which ``nnx.Optimizer`` wraps in a variable."""
  (array,) = jax.tree.leaves(scalar)
  return array


def _shares_by_group(mask: Params, group_fn: Callable[[str], str]) -> dict[str, jax.Array]:
  """Returns the share of True entries in the leaves of each group."""
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
  """Returns the number of extra gradients so far: those beyond the caller's one per step.

  It adds up the closure calls of all methods and estimators of flatopt in the state. A
  Hessian-vector product counts as 2. Estimators from other libraries count as 0. It is exact except
  under ``vmap``, which computes both branches of a ``cond``. Cost: no gradient.

  Args:
    opt_state: the state of any optax optimizer, with or without methods of flatopt.

  Returns:
    An int32 scalar.

  Raises:
    TypeError: the state has lost its types, as in a checkpoint restored without a target.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> optimizer = optax.chain(flatopt.sam(), optax.sgd(0.1))
    >>> int(flatopt.extra_gradient_evaluations(optimizer.init(jnp.zeros(3))))
    0
  """
  states = _method_states("extra_gradient_evaluations", opt_state)
  counts = [_unwrap(state.extra_gradients) for state in states]
  counts = [n for n in counts if not isinstance(n, int)]  # the 0 of methods that never add to it
  total = sum(counts[1:], counts[0]) if counts else np.int32(0)
  # An explicit transfer, because jax.transfer_guard("disallow") forbids an implicit one. Arrays over
  # the devices of several processes cannot be transferred, and need not be.
  return total if isinstance(total, jax.Array) else jax.device_put(total)
