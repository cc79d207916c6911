"""Checks of what the caller's functions return. The errors are as those of ``_arguments``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from flatopt import _arguments
from flatopt._typing import Params


def check_gradients(method: str, name: str, grads: Any, params: Params) -> None:
  """Checks that a closure returned gradients, not a loss, ``(value, grads)`` or ``(grads, aux)``."""
  structure = jax.tree.structure(params)
  if isinstance(grads, tuple) and len(grads) == 2 and jax.tree.structure(grads) != structure:
    for i, whole in ((1, "(value, grads), as jax.value_and_grad"), (0, "(grads, aux)")):
      if jax.tree.structure(grads[i]) == structure:
        raise ValueError(
          f"{method}: the result of {name} has the structure of {whole}; it must be the gradients"
          f" alone: pass lambda *args: {name}(*args)[{i}]"
        )
  if _is_scalar(grads) and not _is_scalar(params):
    raise ValueError(
      f"{method}: the result of {name} has shape (), as a loss has; it must be the gradients: pass"
      f" jax.grad({name})"
    )
  _arguments.check_same_tree(method, f"the result of {name}", grads, params)


def _is_scalar(tree: Any) -> bool:
  return jax.tree_util.all_leaves([tree]) and jnp.shape(tree) == ()


def check_scalar(method: str, loss: Any, name: str = "loss_fn") -> jax.Array:
  """Returns the loss as an array, which must be a real floating scalar."""
  if not jax.tree_util.all_leaves([loss]):
    seen = f"a {type(loss).__name__}"
  elif jnp.shape(loss) != () or not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
    seen = f"{jnp.result_type(loss)} of shape {jnp.shape(loss)}"
  else:
    return jnp.asarray(loss)
  raise TypeError(
    f"{method}: {name} must return a real floating scalar; got {seen}: pass the loss, not its"
    " gradient, and without aux"
  )


def with_aux(method: str, loss_fn: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
  """Returns ``loss_fn`` as a function that always returns ``(loss, aux)``; checks ``has_aux``."""
  _arguments.check_flag(method, "has_aux", has_aux)

  def loss_and_aux(*args, **kwargs):
    output = loss_fn(*args, **kwargs)
    if has_aux and not (isinstance(output, tuple) and len(output) == 2):
      raise TypeError(
        f"{method}: with has_aux=True, loss_fn must return (loss, aux); got"
        f" {_arguments.describe(output)}"
      )
    if not has_aux and isinstance(output, tuple):
      raise TypeError(
        f"{method}: loss_fn returned a tuple; if it is (loss, aux), pass has_aux=True"
      )
    return output if has_aux else (output, None)

  return loss_and_aux


def check_finite(method: str, name: str, tree: Any) -> Any:
  """Returns the tree. Raises an error if an entry is not finite; traced arrays are not checked."""
  for leaf in jax.tree.leaves(tree):
    if not isinstance(leaf, Tracer) and not bool(jnp.all(jnp.isfinite(leaf))):
      raise ValueError(f"{method}: {name} is not finite at these params")
  return tree
