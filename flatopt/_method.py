"""What ``init`` and ``update`` of every method share: checks, closures, and the step."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.core import Tracer

from flatopt import _arguments, _devices
from flatopt._typing import AxisName, Params

_HAS_NO_AXIS = object()


def transformation(
  method: str,
  state_type: type,
  init: Callable[[Params], Any],
  update: Callable[[Params, Any, Params, Any, dict[str, Any]], tuple[Params, Any]],
  *,
  place: str,
  closures: tuple[str, ...] = (),
  axis_name: AxisName | object = _HAS_NO_AXIS,
) -> optax.GradientTransformationExtraArgs:
  """The optax transformation of a method, from its equations.

  Args:
    method: the public name, which errors begin with.
    state_type: the type of its states.
    init: ``params -> state``; the params are checked.
    update: ``(updates, state, params, step, extra_args) -> (updates, state)``. ``step`` is
      what schedules read; ``extra_args`` is what goes on to transformations inside, with
      ``grad_fn`` where one was given or could be made.
    place: "before", "after" or "around" the base optimizer, or "curvature", whose updates
      argument is not read.
    closures: names of the closures that it cannot do without.
    axis_name: the mapped axis, of methods that have one.
  """

  def checked_init(params):
    _arguments.check_params(method, params)
    return init(params)

  def checked_update(updates, state, params: Any = None, **extra_args):
    _arguments.check_state(method, state_type, state)
    extra_args = _with_grad_fn(extra_args)
    wanted = {name: extra_args.get(name) for name in closures}
    _arguments.check_closures(method, params, **wanted)
    if place != "curvature":
      _arguments.check_same_tree(method, "updates", updates, params)
      _check_axis(updates, params, extra_args)
    step = extra_args.get("step")
    step = state.count if step is None else step
    output, new_state = update(updates, state, params, step, extra_args)
    if observe := extra_args.get(OBSERVER):
      observe(method, place, updates, output)
    return output, new_state

  def _check_axis(updates, params, extra_args):
    if axis_name is None and extra_args.get("axis_name") is None:
      given = {n: extra_args[n] for n in ("grad_fn", "sampled_grad_fn") if extra_args.get(n)}
      _devices.warn_if_replicas_diverge(method, updates, params, given)
    elif axis_name not in (None, _HAS_NO_AXIS) and place != "after":
      _devices.check_varying(method, updates, axis_name)  # pyright: ignore[reportArgumentType]

  return optax.GradientTransformationExtraArgs(checked_init, checked_update)


# The extra argument by which ``check_optimizer`` watches what methods take and give.
OBSERVER = "flatopt_observer"


def _with_grad_fn(extra_args: dict[str, Any]) -> dict[str, Any]:
  """The gradient of ``value_fn`` or ``obj_fn`` stands in where ``grad_fn`` is missing.

  As optax's line searches do, other extra arguments are passed to it that it has names for.
  """
  value_fn = extra_args.get("value_fn") or extra_args.get("obj_fn")
  if extra_args.get("grad_fn") is not None or value_fn is None:
    return extra_args
  _, *others = inspect.signature(value_fn).parameters
  kwargs = {name: extra_args[name] for name in others if name in extra_args}
  return extra_args | {"grad_fn": _GradientOf(lambda params: value_fn(params, **kwargs))}


class _GradientOf:
  """``jax.grad`` of a function of the params, to be told from a ``grad_fn`` of the caller's."""

  def __init__(self, value_fn: Callable[[Params], jax.Array]):
    self._grad_fn = jax.grad(value_fn)

  def __call__(self, params: Params) -> Params:
    return self._grad_fn(params)


def base(base_optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
  """The base optimizer of a wrapper, which gets the extra arguments that the caller gave.

  A ``grad_fn`` made here from ``value_fn`` stays here: optax's line searches raise on arguments
  that they do not know, and flatopt's methods make their own.
  """
  inner = optax.with_extra_args_support(base_optimizer)

  def update(updates, state, params: Any = None, **extra_args):
    if isinstance(extra_args.get("grad_fn"), _GradientOf):
      del extra_args["grad_fn"]
    return inner.update(updates, state, params, **extra_args)

  return optax.GradientTransformationExtraArgs(inner.init, update)


def for_inside(extra_args: dict[str, Any], step: Any, axis_name: AxisName) -> dict[str, Any]:
  """The extra arguments of what stands inside a method that reads its schedules for it.

  The axis, where there is one, says that the method averages what comes from inside.
  """
  return extra_args | {"step": step} | ({} if axis_name is None else {"axis_name": axis_name})


def cond(predicate: jax.Array, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
  """``lax.cond``; outside of a trace one side is traced, the other run, and nothing compiled."""
  if isinstance(predicate, Tracer):
    return jax.lax.cond(predicate, if_true, if_false)
  taken, other = (if_true, if_false) if predicate else (if_false, if_true)
  jax.eval_shape(other)  # what is wrong with it is to be seen now, not when it is taken
  return taken()
