"""Checks of arguments. Every error names the method, the argument, what it got and the remedy."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from flatopt._typing import Params

_STATIC_REMEDY = "under optax.inject_hyperparams, name it in static_args"


def check_number(
  method: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> None:
  """Checks a hyper-parameter that may be a number, a scalar array or a schedule.

  Traced arrays and the values of a schedule have no known value, so only their type is checked.
  """
  if callable(value):
    return
  is_scalar = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if isinstance(value, jax.Array | np.ndarray):
    is_real = any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer))
    is_scalar = is_real and value.shape == ()
  if not is_scalar:
    remedy = f": put it after the method, optax.chain(flatopt.{method}(...), optimizer)"
    is_optimizer = isinstance(value, optax.GradientTransformation)
    seen = "an optimizer" + remedy if is_optimizer else describe(value)
    raise TypeError(f"{method}: {name} must be a number, a scalar array or a schedule; got {seen}")
  if isinstance(value, Tracer):
    return
  number = jax.device_get(value).item() if hasattr(value, "item") else float(value)
  if not (math.isfinite(number) and low <= number <= high):
    allowed = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f">= {low:g}"
    allowed = allowed if math.isfinite(low) else "finite"
    raise ValueError(f"{method}: {name} must be {allowed}; got {number!r}")


def check_decay(method: str, decay: Any, name: str = "decay") -> None:
  """Checks the decay rate of a running average, a Python number in [0, 1)."""
  if isinstance(decay, bool) or not isinstance(decay, numbers.Real):
    raise _wrong_type(method, f"{name} must be a Python number", decay, _STATIC_REMEDY)
  if not 0 <= float(decay) < 1:
    raise ValueError(f"{method}: {name} must be in [0, 1); got {decay!r}")


def check_integer(method: str, name: str, value: Any, minimum: int) -> None:
  """Checks an argument that must be a Python int of ``minimum`` or more."""
  if not _is_int(value):
    raise _wrong_type(method, f"{name} must be a Python int", value, _STATIC_REMEDY)
  if value < minimum:
    raise ValueError(f"{method}: {name} must be >= {minimum}; got {value!r}")


def check_flag(method: str, name: str, value: Any) -> None:
  if not isinstance(value, bool):
    raise _wrong_type(method, f"{name} must be True or False", value)


def check_key(method: str, key: Any) -> None:
  """Checks a key that is built into the transformation, so it must not be traced."""
  if not _is_int(key):
    as_key(method, key, _STATIC_REMEDY)
  if isinstance(key, Tracer):
    raise TypeError(f"{method}: key must not be traced; {_STATIC_REMEDY}")


def as_key(method: str, key: Any, remedy: str = "jax.random.key(0) makes one") -> jax.Array:
  """Returns the JAX key; an int becomes a threefry key on every backend."""
  if _is_int(key):
    return jax.random.key(int(key), impl="threefry2x32")
  is_typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  if not isinstance(key, jax.Array) or not (
    key.shape == () if is_typed else key.dtype == jnp.uint32 and key.ndim == 1
  ):
    raise _wrong_type(method, "key must be a Python int or a JAX key", key, remedy)
  return key


def _wrong_type(method: str, rule: str, value: Any, remedy: str = "") -> TypeError:
  remedy = f" ({remedy})" if remedy else ""
  return TypeError(f"{method}: {rule}; got {describe(value)}{remedy}")


def draw_key(method: str, key: Any, count: jax.Array) -> jax.Array:
  """Returns the key of draw number ``count``. It depends on ``key`` and ``count`` only."""
  return jax.random.fold_in(as_key(method, key), count)


def _is_int(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_axes(
  method: str, axis_name: Any, shard_axes: Any = None, sync_perturbation: Any = False
) -> None:
  """Checks ``axis_name``, ``shard_axes`` and ``sync_perturbation``."""
  both = []
  for argument, value in (("axis_name", axis_name), ("shard_axes", shard_axes)):
    names = value if isinstance(value, tuple) else (() if value is None else (value,))
    if not all(isinstance(n, str) for n in names) or (argument == "axis_name" and value == ()):
      raise _wrong_type(method, f"{argument} must be None, a string or a tuple of strings", value)
    both += names
  if len(both) != len(set(both)):
    raise ValueError(
      f"{method}: axis_name={axis_name!r} and shard_axes={shard_axes!r} name an axis twice; over an"
      " axis either gradients are averaged or params are sharded"
    )
  check_flag(method, "sync_perturbation", sync_perturbation)


def as_transformation(method: str, name: str, value: Any) -> optax.GradientTransformationExtraArgs:
  """Returns an argument that must be an optax transformation as one with extra arguments."""
  if isinstance(value, optax.GradientTransformation):
    return optax.with_extra_args_support(value)
  remedy = ""
  if isinstance(value, optax.MultiSteps):
    remedy = "an optax.MultiSteps becomes one with its method gradient_transformation()"
  elif callable(value) and hasattr(value, "__name__"):
    remedy = f"call it: {value.__name__}(...)"
  raise _wrong_type(method, f"{name} must be an optax.GradientTransformation", value, remedy)


def is_placeholder(params: Params) -> bool:
  """Whether ``params`` is the placeholder that ``optax.tree.map_params`` passes to ``init``."""
  return not jax.tree.leaves(params) and not isinstance(params, dict | list | tuple | None)


def check_params(method: str, params: Params, *, allow_complex: bool = False) -> None:
  """Checks that the params are floating arrays, and that no leaf is masked."""
  leaves = jax.tree_util.tree_leaves_with_path(
    params, is_leaf=lambda x: type(x) is optax.MaskedNode
  )
  if not leaves and not is_placeholder(params):
    raise ValueError(f"{method}: params is an empty pytree ({params!r}); it needs an array")
  for path, leaf in leaves:
    where = f"params{jax.tree_util.keystr(path)}"
    if isinstance(leaf, optax.MaskedNode):
      raise ValueError(
        f"{method}: {where} is optax.MaskedNode; the method needs all params to compute gradients:"
        " use it outside optax.masked and optax.partition, in a chain with them; to freeze params,"
        " use flatopt.trainable(optimizer, mask)"
      )
    if not isinstance(leaf, numbers.Number) and not hasattr(leaf, "dtype"):
      raise TypeError(
        f"{method}: {where} is {describe(leaf)}; params must be arrays: keep everything else out of"
        " them (Equinox: eqx.filter(model, eqx.is_inexact_array))"
      )
    dtype = jnp.result_type(leaf)
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    if not jnp.issubdtype(dtype, jnp.floating) and not (is_complex and allow_complex):
      remedy = "keep other leaves out of the params (NNX: pass nnx.state(model, nnx.Param))"
      if is_complex:
        remedy = "keep real and imaginary parts as two leaves, and join them in the loss"
      raise TypeError(
        f"{method}: {where} is {dtype}; params must be real floating arrays: {remedy}"
      )


def check_closure(method: str, name: str, closure: Callable[..., Any] | None) -> Callable[..., Any]:
  """Returns the closure, which must be a function."""
  if not callable(closure):
    raise _wrong_type(method, f"{name} must be a function", closure)
  return closure


def check_call(
  method: str, state_type: type, state: Any, params: Params, positional: tuple[Any, ...]
) -> None:
  """Checks the type of the state, which some checkpoints lose, and how the rest was passed."""
  if positional:
    raise TypeError(
      f"{method}: update takes three arguments by position; pass the others by keyword:"
      " update(updates, state, params, grad_fn=grad_fn)"
    )
  if not isinstance(state, state_type):
    raise TypeError(
      f"{method}: state must be a {state_type.__name__}, as init returns it; got"
      f" {type(state).__name__}. {RESTORE_WITH_TYPES}"
    )
  if params is None:
    raise ValueError(
      f"{method}: params is None; pass the params: update(updates, state, params, ...)"
    )


RESTORE_WITH_TYPES = (
  "A checkpoint restored without a target loses the types of optimizer states: restore it into the"
  " structure of optimizer.init(params), e.g. with Orbax's StandardRestore(optimizer.init(params))"
  " or flax.serialization.from_state_dict(optimizer.init(params), restored)"
)


def check_same_tree(method: str, name: str, tree: Any, params: Params) -> None:
  """Checks that a tree has the structure and the shapes of the params."""
  seen, wanted = jax.tree.structure(tree), jax.tree.structure(params)
  if seen != wanted:
    is_nnx = type(params).__module__.startswith("flax.nnx")
    remedy = ": pass the same wrt to nnx.Optimizer, and variables, not arrays" if is_nnx else ""
    paths = lambda tree: {
      jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    }
    if missing := paths(params) - paths(tree):
      problem = f"has no array at {min(missing)}, where params have one (None is not zeros)"
    elif extra := paths(tree) - paths(params):
      problem = f"has an array at {min(extra)}, where params have none"
    else:
      problem = f"has the structure {seen}; it must have that of params, {wanted}"
    raise ValueError(f"{method}: {name} {problem}{remedy}")
  for (path, leaf), param in zip(
    jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(params), strict=True
  ):
    if jnp.shape(leaf) != jnp.shape(param):
      raise ValueError(
        f"{method}: {name}{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)};"
        f" params have {jnp.shape(param)} there"
      )


def value_at(value: Any, step: jax.typing.ArrayLike) -> Any:
  """Returns the value of a hyper-parameter at a step; it may be a schedule or a number."""
  if not callable(value):
    return value
  if step is NO_STEP:
    raise TypeError(
      "sharp_loss: a hyper-parameter of the method is a schedule, but a loss does not know the"
      " step: pass a number or a scalar array"
    )
  return value(step)


NO_STEP: Any = object()  # the step of a method inside a loss


def describe(value: Any) -> str:
  """Returns the text for a value in an error message. Arrays are shown by dtype and shape only."""
  is_array = lambda x: isinstance(x, jax.Array | np.ndarray)
  if callable(value) and hasattr(value, "__name__"):
    return f"the function {value.__name__}"
  if any(is_array(leaf) for leaf in jax.tree.leaves(value)):
    value = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}" if is_array(x) else x, value)
    return str(value).replace("'", "")
  text = repr(value)
  return text if len(text) <= 80 and " object at 0x" not in text else f"a {type(value).__name__}"
