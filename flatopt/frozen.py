"""Frozen params: what a mask leaves out is hidden from the optimizer and all that is inside."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flatopt import _arguments, _method
from flatopt._perturbation import full_mask
from flatopt._typing import Mask, Params


class FrozenNode(optax.MaskedNode):
  """Stands where a frozen leaf was, in the trees that the optimizer inside sees."""


class TrainableState(NamedTuple):
  """The state of the optimizer inside, whose trees lack the frozen leaves."""

  inner: optax.OptState


def trainable(
  optimizer: optax.GradientTransformation, mask: Mask
) -> optax.GradientTransformationExtraArgs:
  """Runs an optimizer on some of the params, and leaves the others as they are.

  Leaves off the mask get zero updates. They are never perturbed, enter no norm, count as no
  coordinate of IRE, and no method keeps a copy of them; closures get them back, so losses are
  those of the whole model. For LoRA, a frozen encoder, or a head that is trained alone. Stands
  outermost. Cost: no gradient.

  Args:
    optimizer: any optax transformation, with flatopt's methods anywhere inside.
    mask: bool pytree like the params or a prefix of them, or a callable ``params -> bool
      pytree``; True where a leaf is trained.

  Returns:
    A transformation whose ``update`` needs ``params``. It passes all extra arguments on;
    ``grad_fn``, ``sampled_grad_fn``, ``value_fn`` and ``obj_fn`` stay functions of all params.

  State:
    inner: the optimizer's state for the trained leaves. In its trees a ``FrozenNode``, which
    is an ``optax.MaskedNode``, stands for every frozen leaf.

  Raises:
    ValueError, TypeError: a mask that does not fit the params, is not of bools or trains
      nothing; ``params=None``.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> params = {"encoder": jnp.ones(2), "head": jnp.ones(3)}
    >>> optimizer = flatopt.trainable(
    ...   optax.chain(flatopt.sam(0.1), optax.sgd(0.1)), {"encoder": False, "head": True}
    ... )
    >>> grad_fn = lambda params: params
    >>> state = optimizer.init(params)
    >>> updates, state = optimizer.update(params, state, params, grad_fn=grad_fn)
    >>> updates["encoder"].tolist()
    [0.0, 0.0]
  """
  _arguments.check_transformation("trainable", "optimizer", optimizer)
  optimizer = optax.with_extra_args_support(optimizer)

  def init(params):
    if _arguments.is_placeholder(params):  # of optax.tree.map_params: no tree to mask
      return TrainableState(optimizer.init(params))
    return TrainableState(optimizer.init(_prune(_checked_mask(mask, params), params)))

  def update(updates, state, params: Any = None, **extra_args):
    _arguments.check_state("trainable", TrainableState, state)
    if params is None:
      raise ValueError("trainable: params is None; pass them: update(updates, state, params, ...)")
    is_trained = _checked_mask(mask, params)
    _arguments.check_same_tree("trainable", "updates", updates, params)
    fill = lambda pruned, tree: jax.tree.map(
      lambda on, x, y: x if on else y, is_trained, pruned, tree
    )
    zeros = jax.tree.map(jnp.zeros_like, params)

    def of_trained(fn: Callable[..., Any], gives_gradients: bool) -> Callable[..., Any]:
      @functools.wraps(fn)
      def closure(pruned, *args, **kwargs):
        result = fn(fill(pruned, params), *args, **kwargs)
        if not gives_gradients:
          return result
        _arguments.check_gradients("trainable", "a closure", result, params)
        return _prune(is_trained, result)

      return closure

    for name, gives_gradients in _CLOSURES.items():
      if extra_args.get(name) is not None:
        extra_args[name] = of_trained(extra_args[name], gives_gradients)
    if observe := extra_args.get(_method.OBSERVER):
      extra_args[_method.OBSERVER] = lambda method, place, given, taken: observe(
        method, place, fill(given, zeros), fill(taken, zeros)
      )
    trained, inner = optimizer.update(
      _prune(is_trained, updates), state.inner, _prune(is_trained, params), **extra_args
    )
    return fill(trained, zeros), TrainableState(inner)

  return optax.GradientTransformationExtraArgs(init, update)


_CLOSURES = {"grad_fn": True, "sampled_grad_fn": True, "value_fn": False, "obj_fn": False}


def _prune(is_trained: Params, tree: Params) -> Params:
  return jax.tree.map(lambda on, x: x if on else FrozenNode(), is_trained, tree)


def _checked_mask(mask: Mask, params: Params) -> Params:
  """A Python bool for every leaf of the params."""
  try:
    leaves_of_mask = full_mask(mask, params)
  except ValueError as error:
    raise ValueError(f"trainable: mask does not fit the params: {error}") from None
  found = jax.tree.leaves(leaves_of_mask)
  if not all(isinstance(on, bool | np.bool_) for on in found):
    raise TypeError(
      f"trainable: mask must hold Python bools; got {_arguments.describe(leaves_of_mask)}"
    )
  if not any(found):
    raise ValueError("trainable: mask is False everywhere; it must leave a leaf to train")
  return leaves_of_mask
