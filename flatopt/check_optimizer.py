"""Checks the order in which the parts of an optimizer are combined."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from flatopt import _arguments, _method, _tree, opt_state
from flatopt._typing import Params

_NUM_STEPS = 3  # more than one, because a learning rate that warms up can be 0 on the first step


class _Call(NamedTuple):
  """One call of a method's ``update``; ``place`` is that of ``_method.transformation``."""

  method: str
  place: str
  input: Params
  output: Params


def check_optimizer(
  optimizer: optax.GradientTransformation | optax.MultiSteps,
  params: Params,
  *,
  axis_names: tuple[str, ...] = (),
) -> None:
  """Raises an error if a method is in a place where it does harm or has no effect.

  A wrong order raises no error during training: ``chain(sgd, sam)`` makes the loss climb. Call
  this function once after you build an optimizer. It takes three steps on made-up gradients and
  checks the inputs and outputs of every method of flatopt, and the updates. It does not see all
  that is of no use (``docs/composition.md``). Cost: no gradient; three steps, without compilation.

  Args:
    optimizer: any optax transformation, or an ``optax.MultiSteps``.
    params: the params that the optimizer is for.
    axis_names: the names of all mapped axes that the optimizer's methods have as ``axis_name`` or
      ``shard_axes``. The check runs as one device of such axes.

  Raises:
    ValueError: a method that belongs before the base optimizer is after it or contains it; or
      such a method replaces the output of another one; or the updates do not descend because
      there is no base optimizer; or ``ire()`` has no base optimizer before it; or a
      transformation changes the updates of a wrapper; or a wrapper that keeps params is inside
      another one that moves them; or a method that calls closures is inside ``MultiSteps``; or the
      ``ascent`` of ``sam`` descends; or ``axis_names`` lacks an axis.
    TypeError: ``optimizer`` is not an optax transformation.

  Example:
    >>> import jax.numpy as jnp, optax, flatopt
    >>> flatopt.check_optimizer(optax.chain(flatopt.sam(), optax.sgd(0.1)), jnp.ones(3))
    >>> try:
    ...   flatopt.check_optimizer(optax.chain(optax.sgd(0.1), flatopt.sam()), jnp.ones(3))
    ... except ValueError as error:
    ...   print(error)
    check_optimizer: sam is after the base optimizer: it gets updates that already descend. Put \
it before: optax.chain(flatopt.sam(...), base_optimizer)
  """
  if isinstance(optimizer, optax.MultiSteps):
    update: Any = optimizer.update
  else:
    update = _arguments.as_transformation("check_optimizer", "optimizer", optimizer).update
  check = functools.partial(_check, optimizer.init, update, params)
  for name in axis_names:
    check = jax.vmap(check, axis_name=name, axis_size=1)  # nothing is batched: values stay values
  try:
    check()
  except NameError as error:
    if "axis name" not in str(error):
      raise
    raise ValueError(
      "check_optimizer: the optimizer uses a mapped axis; name all that it uses, such as"
      f" axis_names=('data',). {error}"
    ) from error


def _check(init: Callable[..., Any], update: Callable[..., Any], params: Params) -> None:
  """Takes the steps and checks them."""
  got_bare_gradient: dict[str, list[bool]] = {}  # by the name of a method with place "after"
  slopes: list[jax.Array] = []  # positive if the updates of a step point uphill
  calls: list[_Call] = []

  def record(*call):
    # A branch that is not taken is traced for its shapes only, without values.
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves(call[2:])):
      calls.append(_Call(*call))

  with jax.disable_jit():  # so that cond and scan run on values, which can be compared
    state: Any = init(params)
    _check_nesting(state)
    for i in range(_NUM_STEPS):
      grads = _made_up_gradients(params, i)
      calls.clear()
      updates, state = update(
        grads, state, params, **_closures(grads), **{_method.OBSERVER: record}
      )
      for j, call in enumerate(calls):
        if call.place == "ascent" and not _cosine(call.output, call.input) > 0:
          raise ValueError(
            f"check_optimizer: the ascent of {call.method} descends. Pass a transformation without"
            " a learning rate, such as optax.scale_by_adam() in place of optax.adam(...)"
          )
        gradients = [grads, *(c.output for c in calls[:j] if c.place == "before")]
        if call.place == "before":
          _check_gradient_method(call, calls[:j], grads)
        if call.place == "after":
          is_bare = any(_is_parallel(call.input, gradient) for gradient in gradients)
          got_bare_gradient.setdefault(call.method, []).append(is_bare)
      _check_wrapper(calls, updates)
      slopes.append(_cosine(updates, grads))
  for method, were_bare in got_bare_gradient.items():
    if all(were_bare):
      raise ValueError(
        f"check_optimizer: {method} has nothing before it: it gets the gradient itself. Put it"
        f" after the base optimizer: optax.chain(base_optimizer, flatopt.{method}())"
      )
  if calls and max(slopes) > 0 and not min(slopes) < 0:
    raise ValueError(
      f"check_optimizer: the updates point uphill, so the loss climbs: {calls[-1].method} has no"
      f" base optimizer, or the base optimizer no learning rate, or rst contains it. Put one after"
      " sam and rst, such as optax.chain(flatopt.rst(...), optax.sgd(0.1))"
    )


def _check_nesting(state: Any) -> None:
  """Checks what is inside ``MultiSteps``, and what is inside the wrappers of flatopt."""
  is_multi_steps = lambda x: isinstance(x, optax.MultiStepsState)
  for node in filter(is_multi_steps, jax.tree.leaves(state, is_leaf=is_multi_steps)):
    for inner in opt_state.walk(node.inner_opt_state):
      if not isinstance(inner.extra_gradients, int):
        raise ValueError(
          f"check_optimizer: {inner.method} is inside optax.MultiSteps, so its closure would be"
          " called on every microbatch and used on the last alone. Drop MultiSteps and accumulate"
          " in flatopt.closures.micro_value_and_grad or flatopt.nnx.micro_value_and_grad"
        )
  for outer in opt_state.walk(state):
    base = getattr(outer, "base", None)
    if base is None or outer.method in _LEAVE_PARAMS_ALONE:
      continue
    for inner in opt_state.walk(base):
      if hasattr(inner, "eval_params"):
        raise ValueError(
          f"check_optimizer: {inner.method} is inside {outer.method}, which moves the params away"
          f" from what {inner.method} keeps in its state. Keep one of the two"
        )


# Wrappers whose updates are those of the base optimizer.
_LEAVE_PARAMS_ALONE = "weight_average", "finish"


def _check_gradient_method(call: _Call, earlier: list[_Call], grads: Params) -> None:
  """Checks one call of a method that belongs before the base optimizer."""
  method = call.method
  in_a_chain = f"flatopt.{method}({'rho=...' if method == 'ire' else '...'})"
  if not _cosine(call.input, grads) > 0:
    raise ValueError(
      f"check_optimizer: {method} is after the base optimizer: it gets updates that already"
      f" descend. Put it before: optax.chain({in_a_chain}, base_optimizer)"
    )
  if _cosine(call.output, grads) < 0:
    raise ValueError(
      f"check_optimizer: {method} contains the base optimizer: its output already descends. Put"
      f" the base optimizer after it: optax.chain({in_a_chain}, base_optimizer)"
    )
  for other in earlier:
    # A method that contains another one has the same input as it, not its output.
    made_input = _is_parallel(call.input, other.output)
    if other.place == "before" and made_input and not _is_parallel(call.input, other.input):
      raise ValueError(
        f"check_optimizer: {other.method} is before {method}, which replaces its output by another"
        f" gradient, so the extra gradient of {other.method} is lost. Keep one of the two"
      )


def _check_wrapper(calls: list[_Call], updates: Params) -> None:
  """Checks that the updates of the outermost wrapper, which is the last call, are not changed."""
  wrappers = [call for call in calls if call.place == "around"]
  if not wrappers:
    return
  method, _, _, output = wrappers[-1]
  same = jax.tree.map(lambda x, y: bool(jnp.allclose(x, y)), output, updates)
  if not all(jax.tree.leaves(same)):
    raise ValueError(
      f"check_optimizer: the updates of {method} are changed after it, so its state no longer"
      f" agrees with the params. Put all other parts inside: flatopt.{method}(optax.chain(...))"
    )


def _made_up_gradients(params: Params, i: int) -> Params:
  """Returns the gradients of step ``i``, at least as long as the params and not along them.

  So weight decay hides no direction. Those of different steps are similar, because of momentum.
  """
  size = sum(map(jnp.size, jax.tree.leaves(params)))
  scale = (1 + _tree.norm(params) / size**0.5,)
  keys = jax.random.key(0), jax.random.key(1 + i)
  shared, own = (optax.tree.random_like(key, params, jax.random.normal) for key in keys)
  return _tree.map_wide(lambda s, x, y: s * (x + y / 2), scale, shared, own)


def _closures(grads: Params) -> dict[str, Any]:
  """Returns the closures of a loss that is linear in the params, with gradient ``grads``.

  Each call of a closure returns slightly other gradients, which show where an input comes from.
  """
  keys = (jax.random.key(i) for i in itertools.count())

  def grad_fn(params):
    noise = optax.tree.random_like(next(keys), grads, jax.random.uniform)
    return _tree.map_wide(lambda g, x: g * (1 + x / 10), (), grads, noise)

  # optax's line searches raise an error for extra arguments that value_fn has no parameter for.
  def value_fn(params, *, grad_fn=None, sampled_grad_fn=None, obj_fn=None, flatopt_observer=None):
    return _tree.dot(grads, params)

  return {
    "grad_fn": grad_fn,
    "sampled_grad_fn": lambda params, key: grad_fn(params),
    "value_fn": value_fn,
    "obj_fn": value_fn,
    "value": jnp.zeros(()),
    "grad": grads,
  }


def _is_parallel(a: Params, b: Params) -> bool:
  """Whether two trees have the same direction, as after clipping by the global norm."""
  return bool(_cosine(a, b) > 1 - 1e-6)


def _cosine(updates: Params, grads: Params) -> jax.Array:
  """Returns 1 if the updates are the gradient, and -1 if they are a step of gradient descent."""
  lengths = _tree.norm(updates) * _tree.norm(grads)
  return _tree.dot(updates, grads) / jnp.where(lengths > 0, lengths, 1)
