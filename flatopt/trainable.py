"""Frozen params: the optimizer and its methods do not see the leaves that a mask excludes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flatopt import _arguments, _method, _results
from flatopt._perturbation import checked_mask
from flatopt._typing import Mask, Params


class FrozenNode(optax.MaskedNode):
  """Replaces a frozen leaf in the trees that the optimizer sees."""


class TrainableState(NamedTuple):
  """The state of the optimizer, whose trees do not contain the frozen leaves."""

  inner: optax.OptState


def trainable(
  optimizer: optax.GradientTransformation, mask: Mask
) -> optax.GradientTransformationExtraArgs:
  """Trains some leaves of the params and freezes the others.

  Frozen leaves get zero updates. They are never perturbed and not counted in norms, IRE does not
  count them as coordinates, and no method keeps a copy of them. Closures still get all params, so
  the loss is that of the whole model. Use it for LoRA, for a frozen encoder, or to train only a
  head. Put it outermost. Cost: no gradient.

  Args:
    optimizer: any optax transformation, with methods of flatopt anywhere inside.
    mask: bool pytree like the params, or a prefix of it, or a callable ``params -> bool pytree``;
      True for a leaf to train. A dict is also a prefix of an ``nnx.State``.

  Returns:
    A transformation whose ``update`` needs ``params``. It passes all extra arguments on.
    ``grad_fn``, ``sampled_grad_fn``, ``value_fn`` and ``obj_fn`` are functions of all params.

  State:
    inner: the state of ``optimizer`` for the trained leaves. Its trees have a ``FrozenNode``,
    which is an ``optax.MaskedNode``, in place of each frozen leaf.

  Raises:
    ValueError, TypeError: the mask does not fit the params, does not consist of bools or trains no
      leaf; or ``params`` is missing.

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
  optimizer = _arguments.as_transformation("trainable", "optimizer", optimizer)

  def init(params):
    if _arguments.is_placeholder(params):  # it is not a tree that could be masked
      return TrainableState(optimizer.init(params))
    return TrainableState(optimizer.init(_prune(checked_mask("trainable", mask, params), params)))

  def update(updates, state, params: Any = None, *positional, **extra_args):
    _arguments.check_call("trainable", TrainableState, state, params, positional)
    is_trained = checked_mask("trainable", mask, params)
    _arguments.check_same_tree("trainable", "updates", updates, params)
    # Frozen leaves are taken from `tree`.
    fill = lambda pruned, tree: jax.tree.map(
      lambda on, x, y: x if on else y, is_trained, pruned, tree
    )
    zeros = jax.tree.map(jnp.zeros_like, params)

    def prune_result(grads):
      _results.check_gradients("trainable", "a closure", grads, params)
      return _prune(is_trained, grads)

    extra_args = _method.closures_of_part(extra_args, lambda p: fill(p, params), prune_result)
    if observe := extra_args.get(_method.OBSERVER):
      extra_args[_method.OBSERVER] = lambda method, place, inputs, outputs: observe(
        method, place, fill(inputs, zeros), fill(outputs, zeros)
      )
    trained, inner = optimizer.update(
      _prune(is_trained, updates), state.inner, _prune(is_trained, params), **extra_args
    )
    return fill(trained, zeros), TrainableState(inner)

  return optax.GradientTransformationExtraArgs(init, update)


def _prune(is_trained: Params, tree: Params) -> Params:
  """Replaces the frozen leaves by nodes without arrays."""
  return jax.tree.map(lambda on, x: x if on else FrozenNode(), is_trained, tree)
