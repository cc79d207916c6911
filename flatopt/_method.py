"""The part that all methods share: it checks arguments and prepares closures and the step."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax.core import Tracer

from flatopt import _arguments, _devices, _results
from flatopt._typing import AxisName, Params


class CountState(NamedTuple):
  """The state of a method that calls its closure once per update and keeps nothing else."""

  count: jax.Array

  @property
  def extra_gradients(self):
    return self.count

  def metrics(self):
    return {"count": self.count}


def transformation(
  method: str,
  state_type: type,
  init: Callable[[Params], Any],
  update: Callable[[Params, Any, Params, Any, dict[str, Any]], tuple[Params, Any]],
  *,
  place: str,
  closures: tuple[str, ...] = (),
  axis_name: AxisName = None,
  allow_complex: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Makes an optax transformation of a method's equations, and checks what it is called with.

  Args:
    method: the public name of the method; error messages begin with it.
    state_type: the type of the method's state.
    init: ``params -> state``. The params are checked before.
    update: ``(updates, state, params, step, extra_args) -> (updates, state)``. ``step`` is the
      step that schedules read. ``extra_args`` are the extra arguments to pass on to
      transformations inside; they contain ``grad_fn`` if it was given or could be made.
    place: "before", "after" or "around" the base optimizer; or "curvature" for estimators, which
      do not read ``updates``.
    closures: names of the closures that the method needs.
    axis_name: the mapped axis over which the method averages.
    allow_complex: whether the equations are right for complex params.
  """

  def checked_init(params):
    _arguments.check_params(method, params, allow_complex=allow_complex)
    return init(params)

  def checked_update(updates, state, params: Any = None, *positional, **extra_args):
    _arguments.check_no_positional(method, positional)
    _arguments.check_state(method, state_type, state)
    extra_args = _with_grad_fn(method, extra_args)
    wanted = {name: extra_args.get(name) for name in closures}
    _arguments.check_closures(method, params, allow_complex=allow_complex, **wanted)
    if place != "curvature":
      _arguments.check_same_tree(method, "updates", updates, params)
    if place in ("before", "around"):
      _devices.check_varying(method, updates, axis_name)
    step = extra_args.get("step")
    step = state.count if step is None else step
    output, new_state = update(updates, state, params, step, extra_args)
    if observe := extra_args.get(OBSERVER):
      observe(method, place, updates, output)
    return output, new_state

  return optax.GradientTransformationExtraArgs(checked_init, checked_update)


# The extra argument through which ``check_optimizer`` sees the inputs and outputs of methods.
OBSERVER = "flatopt_observer"


def _with_grad_fn(method: str, extra_args: dict[str, Any]) -> dict[str, Any]:
  """If ``grad_fn`` is missing, adds the gradient of ``value_fn`` or of ``obj_fn`` as ``grad_fn``.

  The function also gets those extra arguments that it has parameters for, as in optax's line
  searches.
  """
  value_fn = extra_args.get("value_fn") or extra_args.get("obj_fn")
  if extra_args.get("grad_fn") is not None or value_fn is None:
    return extra_args
  _, *others = inspect.signature(value_fn).parameters
  kwargs = {name: extra_args[name] for name in others if name in extra_args}
  name = "value_fn" if extra_args.get("value_fn") else "obj_fn"
  loss_at = lambda params: _results.check_scalar(method, value_fn(params, **kwargs), name)
  return extra_args | {"grad_fn": _GradientOf(loss_at)}


def closures_of_part(
  extra_args: dict[str, Any],
  whole: Callable[[Params], Params],
  part: Callable[[Params], Params],
) -> dict[str, Any]:
  """Returns the extra arguments for an optimizer that sees a part of the params.

  ``whole`` completes the part to all params, which closures take; ``part`` cuts the gradients that
  they return.
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


class _GradientOf:
  """A ``grad_fn`` that was made here, of a type that tells it from a ``grad_fn`` of the caller."""

  def __init__(self, value_fn: Callable[[Params], jax.Array]):
    self._grad_fn = jax.grad(value_fn)

  def __call__(self, params: Params) -> Params:
    return self._grad_fn(params)


def prepare_base(
  base_optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Makes the base optimizer of a wrapper take exactly the extra arguments of the caller.

  A ``grad_fn`` that was made here from ``value_fn`` is removed, because optax's line searches
  raise an error for arguments that they do not know. flatopt's methods make it again.
  """
  inner = optax.with_extra_args_support(base_optimizer)

  def update(updates, state, params: Any = None, **extra_args):
    if isinstance(extra_args.get("grad_fn"), _GradientOf):
      del extra_args["grad_fn"]
    return inner.update(updates, state, params, **extra_args)

  return optax.GradientTransformationExtraArgs(inner.init, update)


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
