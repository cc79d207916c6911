"""The part that all methods share: it checks arguments and prepares closures and the step."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.core import Tracer

from flatopt import _arguments, _devices, _results, _tree
from flatopt._typing import AxisName, Params


def reported(*names: str) -> Callable[[Any], dict[str, jax.Array]]:
  """Returns the method ``metrics`` of a state: the fields of these names."""
  return lambda state: {name: getattr(state, name) for name in names}


class CountState(NamedTuple):
  """The state of a method that calls its closure once per update and keeps nothing else."""

  count: jax.Array

  extra_gradients = property(lambda self: self.count)
  metrics = reported("count")


def transformation(
  state_type: Any,
  init: Callable[[Params], Any],
  update: Callable[[Params, Any, Params, Any, dict[str, Any]], tuple[Params, Any]],
  *,
  place: str,
  axis_name: AxisName = None,
  allow_complex: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Makes an optax transformation of a method's equations, and checks what it is called with.

  ``update`` is ``(updates, state, params, step, extra_args) -> (updates, state)``, and the calls
  are counted here. ``step`` is the step that schedules read, ``extra_args`` go inside. ``place`` is
  "before", "after" or "around" the base optimizer, or "curvature" for estimators, which do not read
  ``updates``. ``allow_complex``: whether complex params may come in.
  """
  method = state_type.method

  def checked_init(params):
    _arguments.check_params(method, params, allow_complex=allow_complex)
    return init(params)

  def checked_update(updates, state, params: Any = None, *positional, **extra_args):
    _arguments.check_call(method, state_type, state, params, positional)
    _arguments.check_params(method, params, allow_complex=allow_complex)
    if place != "curvature":
      _arguments.check_same_tree(method, "updates", updates, params)
    if place in ("before", "around"):
      _devices.check_varying(method, updates, axis_name)
    step = extra_args.get("step")
    step = state.count if step is None else step
    output, new_state = update(updates, state, params, step, extra_args)
    if observe := extra_args.get(OBSERVER):
      observe(method, place, updates, output)
    return output, new_state._replace(count=_tree.increment(state.count))

  return optax.GradientTransformationExtraArgs(checked_init, checked_update)


# The extra argument through which ``check_optimizer`` sees the inputs and outputs of methods.
OBSERVER = "flatopt_observer"


def closure(method: str, name: str, extra_args: dict[str, Any]) -> Callable[..., Params]:
  """Returns the closure that the caller passed by this name.

  A ``grad_fn`` that is missing is the gradient of ``value_fn`` or of ``obj_fn``. This function
  also gets those extra arguments that it has parameters for, as in optax's line searches.
  """
  found = extra_args.get(name)
  value_name = "value_fn" if extra_args.get("value_fn") else "obj_fn"
  value_fn = extra_args.get(value_name)
  if found is None and name == "grad_fn" and value_fn is not None:
    _, *others = inspect.signature(value_fn).parameters
    kwargs = {key: extra_args[key] for key in others if key in extra_args}
    return jax.grad(lambda p: _results.check_scalar(method, value_fn(p, **kwargs), value_name))
  if found is None:
    hint = (
      "value_fn or obj_fn is enough, too; Flax's own TrainState drops closures: use"
      " flatopt.linen.TrainState; in a loop not yours: closures.sharp_loss, and no method here"
    )
    raise ValueError(
      f"{method}: {name} is missing; pass it: update(updates, state, params, {name}={name})"
      f" ({hint if name == 'grad_fn' else 'flatopt.closures.sampled_label_grad_fn makes one'})"
    )
  return _arguments.check_closure(method, name, found)


def closures_of_part(
  extra_args: dict[str, Any],
  whole: Callable[[Params], Params],
  part: Callable[[Params], Params],
) -> dict[str, Any]:
  """Returns the extra arguments for an optimizer that sees a part of the params.

  ``whole`` completes the part to all params, for closures; ``part`` cuts the gradients they return.
  """

  def of_part(closure: Callable[..., Any], finish: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(closure)
    def closure_of_part(params, *args, **kwargs):
      return finish(closure(whole(params), *args, **kwargs))

    return closure_of_part

  finish = dict.fromkeys(("grad_fn", "sampled_grad_fn"), part)
  finish |= dict.fromkeys(("value_fn", "obj_fn"), lambda value: value)
  given = {name: value for name, value in extra_args.items() if value is not None}
  cut = {name: of_part(given[name], finish[name]) for name in finish if name in given}
  if "grad" in given:  # the gradient for optax's line searches
    cut["grad"] = part(given["grad"])
  return extra_args | cut


def cond(predicate: jax.Array, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
  """``lax.cond``; outside ``jit``, runs the chosen branch without compiling anything."""
  if isinstance(predicate, Tracer):
    return jax.lax.cond(predicate, if_true, if_false)
  taken, other = (if_true, if_false) if predicate else (if_false, if_true)
  jax.eval_shape(other)  # so that an error in the other branch is raised now, not many steps later
  return taken()


def init_inner(method: str, inner: optax.GradientTransformation, params: Params) -> optax.OptState:
  """Returns the state of a transformation that a method does not update on every step.

  Schedules of flatopt's methods read the outer method's step. Those of ``inject_hyperparams`` count
  its own calls, so they would lag behind.
  """
  state = inner.init(params)
  is_injected = lambda x: isinstance(x, optax.InjectStatefulHyperparamsState)
  for node in jax.tree.leaves(state, is_leaf=is_injected):
    for name in node.hyperparams_states if is_injected(node) else ():
      raise ValueError(
        f"{method}: the schedule for {name} in optax.inject_hyperparams would count only the steps"
        f" on which {method} calls inner. Pass the schedule to the method itself, as in"
        f" flatopt.sam(rho=schedule), or put inject_hyperparams around flatopt.{method}"
      )
  return state
