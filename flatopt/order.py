"""Finds out whether the parts of an optimizer stand in an order that means something."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from flatopt import _arguments, _method, _tree
from flatopt._typing import Params

_NUM_STEPS = 3  # a learning rate that warms up from 0 is 0 in the first


def check_optimizer(
  optimizer: optax.GradientTransformation | optax.MultiSteps, params: Params
) -> None:
  """Raises where a method stands in a place in which it does harm or nothing.

  Wrong orders train without an error: ``chain(sgd, sam)`` climbs. This takes a few steps on
  made-up gradients, looks at what every method of flatopt is given and what becomes of its
  updates, and throws the result away. Call it once, after building an optimizer. Cost: no
  gradient; three steps of the optimizer, not compiled.

  Args:
    optimizer: any optax transformation, or an ``optax.MultiSteps``.
    params: the params that it is for.

  Raises:
    ValueError: a method that belongs before the base optimizer gets updates that already
      descend; ``ire_update`` gets a bare gradient; the updates of a wrapper are changed
      behind it.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> flatopt.check_optimizer(optax.chain(flatopt.sam(), optax.sgd(0.1)), jnp.ones(3))
    >>> try:
    ...   flatopt.check_optimizer(optax.chain(optax.sgd(0.1), flatopt.sam()), jnp.ones(3))
    ... except ValueError as error:
    ...   print(error)
    check_optimizer: sam stands behind the base optimizer: its updates already descend. Put it \
before: optax.chain(flatopt.sam(...), base_optimizer)
  """
  if isinstance(optimizer, optax.MultiSteps):
    update: Any = optimizer.update
  else:
    _arguments.check_transformation("check_optimizer", "optimizer", optimizer)
    update = optax.with_extra_args_support(optimizer).update
  seen_by_after: dict[str, list[bool]] = {}
  with jax.disable_jit():  # so that cond and scan run what they hold, on values
    state: Any = optimizer.init(params)
    for i in range(_NUM_STEPS):
      grads = _made_up_gradients(params, i)
      calls: list[tuple[str, str, Params, Params]] = []
      updates, state = update(
        grads, state, params, **_closures(grads), **{_method.OBSERVER: _recorder(calls)}
      )
      for method, place, given, _ in calls:
        if place == "before" and not _descent_cosine(given, grads) > 0:
          raise ValueError(
            f"check_optimizer: {method} stands behind the base optimizer: its updates already"
            f" descend. Put it before: optax.chain(flatopt.{method}(...), base_optimizer)"
          )
        if place == "after":
          is_bare = _descent_cosine(given, grads) > 1 - 1e-6
          seen_by_after.setdefault(method, []).append(bool(is_bare))
      _check_wrapper(calls, updates)
  for method, were_bare in seen_by_after.items():
    if all(were_bare):
      raise ValueError(
        f"check_optimizer: {method} has nothing before it: it gets the gradient itself. Put it"
        f" behind: optax.chain(base_optimizer, flatopt.{method}(...))"
      )


def _check_wrapper(calls: list[tuple[str, str, Params, Params]], updates: Params) -> None:
  """The outermost wrapper, which reports last, gave the updates that are applied."""
  wrappers = [(method, output) for method, place, _, output in calls if place == "around"]
  if not wrappers:
    return
  method, output = wrappers[-1]
  same = jax.tree.map(lambda x, y: bool(jnp.allclose(x, y)), output, updates)
  if not all(jax.tree.leaves(same)):
    raise ValueError(
      f"check_optimizer: the updates of {method} are changed behind it, which breaks its"
      f" bookkeeping. Put all else inside: flatopt.{method}(optax.chain(...))"
    )


def _made_up_gradients(params: Params, i: int) -> Params:
  """Of another direction than the params, and at least as long."""
  size = sum(map(jnp.size, jax.tree.leaves(params)))
  scale = (1 + _tree.norm(params) / size**0.5,)
  keys = jax.random.key(0), jax.random.key(1 + i)
  shared, own = (optax.tree.random_like(key, params, jax.random.normal) for key in keys)
  return _tree.map_wide(lambda s, x, y: s * (x + y / 2), scale, shared, own)


def _closures(grads: Params) -> dict[str, Any]:
  """Closures of a loss that is linear in the params."""
  value_fn = lambda params, **kwargs: _tree.dot(grads, params)
  return {
    "grad_fn": lambda params: grads,
    "sampled_grad_fn": lambda params, key: grads,
    "value_fn": value_fn,
    "obj_fn": value_fn,
    "value": jnp.zeros(()),
    "grad": grads,
  }


def _recorder(calls: list[tuple[str, str, Params, Params]]):
  def record(*call):
    # What is traced only for its shapes, in a branch that is not taken, says nothing.
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves(call[2:])):
      calls.append(call)

  return record


def _descent_cosine(updates: Params, grads: Params) -> jax.Array:
  """1 where the updates are the gradient, -1 where they are a step of gradient descent."""
  lengths = _tree.norm(updates) * _tree.norm(grads)
  return _tree.dot(updates, grads) / jnp.where(lengths > 0, lengths, 1)
