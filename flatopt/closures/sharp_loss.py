"""A loss whose gradient is that of a sharpness-aware method, for loops that are not yours."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero, zero_from_primal
from jax.extend.core import jaxpr_as_fun

from flatopt import _arguments, _devices, _results, _tree
from flatopt._typing import Args, Params, Value
from flatopt.gradients.asam import AsamState
from flatopt.gradients.sam import SamState, sam


def sharp_loss(
  loss_fn: Callable[Args, Value],
  method: optax.GradientTransformation | None = None,
  *,
  has_aux: bool = False,
) -> Callable[Args, Value]:
  """Makes a loss with the same value, whose gradient is the output of a sharpness-aware method.

      value:                                  loss_fn(params, ...)
      derivative with respect to params:      method's output: grad_fn(params + eps) for sam
      derivative with respect to the others:  that of loss_fn at params

  Use it where a library owns the training loop and calls ``optimizer.update`` without closures:
  give it this loss, and an optimizer without the method. It is for losses to be minimised, never
  for log densities to be sampled from. Cost: two gradients where it is differentiated with
  respect to params, one forward pass where it is only evaluated.

  Args:
    loss_fn: ``(params, *args, **kwargs) -> loss``, a real floating scalar; or ``(loss, aux)`` with
      ``has_aux``. Leaves of ``params`` that are not floating pass through.
    method: ``flatopt.sam(...)`` or ``flatopt.asam(...)``, also with a mask of the floating leaves
      or an ``ascent`` that keeps no state; ``None``: ``flatopt.sam()``. Other methods keep a state
      between steps, for which there is no place here; nor is there one for a schedule's count.
    has_aux: whether ``loss_fn`` also returns aux. Aux is not differentiated.

  Returns:
    A function with the signature of ``loss_fn``, for ``jax.grad``, ``jax.value_and_grad``,
    ``jax.jacfwd`` and everything built on them, such as ``eqx.filter_value_and_grad``: Equinox
    models are params, too, and ``flatopt.equinox.sharp_loss`` is this function.

  Raises:
    TypeError: another ``method``, ``loss_fn`` returns no scalar, or it is differentiated twice.

  Example:
    >>> import jax, jax.numpy as jnp, flatopt
    >>> loss_fn = lambda w: jnp.sum(w**4)
    >>> sharp_loss = flatopt.closures.sharp_loss(loss_fn, flatopt.sam(rho=0.1))
    >>> loss, grads = jax.value_and_grad(sharp_loss)(jnp.array([1.0]))
    >>> print(float(loss), round(float(grads[0]), 5))  # 4 * 1.1**3
    1.0 5.324
  """
  loss_and_aux = _results.with_aux("sharp_loss", loss_fn, has_aux)
  chosen = _arguments.as_transformation("sharp_loss", "method", sam() if method is None else method)

  @functools.wraps(loss_fn, updated=())  # JAX and NNX look arguments up by their names
  def loss_with_sharp_gradient(params, *args, **kwargs):
    # A Python number is a weight only where JAX differentiates it, and is an array there.
    is_weight = lambda x: isinstance(x, jax.Array) and _is_inexact(x)
    weights = jax.tree.map(lambda x: x if is_weight(x) else None, params)
    frozen = jax.tree.map(lambda x: None if is_weight(x) else x, params)
    if has_weights := bool(jax.tree.leaves(weights)):
      _check_method(chosen.init, weights)
    arrays, fill = _arrays_of((frozen, args, kwargs))
    fill_aux = []

    def evaluate(weights, arrays):
      frozen, args, kwargs = fill(arrays)
      either = lambda w, x: x if w is None else w
      params = jax.tree.map(either, weights, frozen, is_leaf=lambda x: x is None)
      loss, aux = loss_and_aux(params, *args, **kwargs)
      aux, fill_last = _arrays_of(aux)
      fill_aux[:] = [fill_last]
      return _results.check_scalar("sharp_loss", loss), aux

    def look(weights, grads, sharp):
      """Returns the method's output if its gradient is ``sharp``, and where it takes that one."""
      state, step, places = chosen.init(weights), _arguments.NO_STEP, []
      grad_fn = lambda w: places.append(w) or sharp
      return chosen.update(grads, state, weights, grad_fn=grad_fn, step=step)[0], places[0]

    try:
      if jax.sharding.get_abstract_mesh().manual_axes:
        # If losses differ between the devices, gradients are of each device's own loss.
        loss, _ = jax.eval_shape(evaluate, weights, arrays)
        weights, arrays = jax.tree.map(lambda x: _devices.varying_like(x, loss), (weights, arrays))
      program, captured = _with_captured(evaluate, weights, arrays)
      method, traced = _with_captured(look, *[weights] * 3) if has_weights else (look, [])
      apply = jax.custom_jvp(lambda _, *args: program(*args))
      apply.defjvp(functools.partial(_derivative, program, method), symbolic_zeros=True)
      loss, aux = apply(traced, weights, arrays, captured)
    except jax.errors.UnexpectedTracerError as error:
      raise ValueError(_CLOSED_OVER) from error
    return (loss, fill_aux[0](aux)) if has_aux else loss

  return cast(Callable[Args, Value], loss_with_sharp_gradient)


def _is_inexact(x: Any) -> bool:
  return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _arrays_of(tree: Any) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
  """Returns the arrays of the tree, and a function that puts others in their place.

  Everything else (flags, names, functions) stays as it is, so that the loss may branch on it.
  """
  leaves, structure = jax.tree.flatten(tree)
  is_array = [isinstance(x, jax.Array) for x in leaves]

  def fill(arrays):
    new = iter(arrays)
    return structure.unflatten(
      next(new) if on else x for x, on in zip(leaves, is_array, strict=True)
    )

  return [x for x, on in zip(leaves, is_array, strict=True) if on], fill


def _check_method(init: Callable[[Params], Any], params: Params) -> None:
  """Raises an error if the state of the method says more than how often it was called."""
  state = jax.eval_shape(init, params)
  name = "a chain" if type(state) is tuple else getattr(state, "method", type(state).__name__)
  if isinstance(state, SamState) and jax.tree.leaves(state.ascent):
    name = "sam with an ascent that keeps a state"
  elif isinstance(state, SamState | AsamState):
    return
  raise TypeError(
    "sharp_loss: method must be flatopt.sam or flatopt.asam, whose output depends on no earlier"
    f" step; got {name}. Put this one into the optimizer, as optax.chain(method, base_optimizer),"
    " and pass grad_fn in a loop of your own: update(grads, state, params, grad_fn=grad_fn)"
  )


def _with_captured(fn, *args):
  """Returns ``fn(*args, captured)``, and the arrays that ``fn`` closes over.

  Inside ``jit``, ``scan`` and the like the derivative may be taken when the traced arrays that the
  loss or the method closes over are gone, so they become arguments. Elsewhere there are none.
  """
  uncaptured = lambda *args: fn(*args[:-1]), []
  if not isinstance(jnp.zeros(()), Tracer):
    return uncaptured
  try:  # not jax.closure_convert, which leaves integers (labels, keys) where they are
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
  except NameError:  # evaluated outside the method's axis, which only the derivative needs
    return uncaptured

  def of_captured(*args):
    outputs = jaxpr_as_fun(program.replace(consts=args[-1]))(*jax.tree.leaves(args[:-1]))
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

  return of_captured, program.consts


def _derivative(program, method, primals, tangents):
  """The rule for ``jax.custom_jvp``: the tangent is the inner product of gradient and direction.

  The gradient by the weights is the output of ``method``, by the other arrays that of ``program``.
  """
  (traced, *primals), tangents = primals, list(tangents[1:])
  leaves, structure = jax.tree.flatten(primals)
  directions = structure.flatten_up_to(tangents)
  moves = [
    _is_inexact(x) and not isinstance(t, SymbolicZero)
    for x, t in zip(leaves, directions, strict=True)
  ]
  of_weights = jax.tree.structure(primals[0])
  n = of_weights.num_leaves if any(moves[: of_weights.num_leaves]) else 0
  index = [i for i, on in enumerate(moves) if on or i < n]  # the method needs the whole gradient

  def loss_at(moved):
    values = leaves.copy()
    for i, x in zip(index, moved, strict=False):  # all that move, or the weights, which come first
      values[i] = x
    return program(*structure.unflatten(values))

  moving = [leaves[i] for i in index]
  (loss, aux), grads = jax.value_and_grad(loss_at, has_aux=True)(moving)
  if any(_devices.varying_like(x, loss) is not x for x in moving):
    raise ValueError(_CLOSED_OVER)  # its gradient is already summed over the devices
  if n:
    own = of_weights.unflatten(grads[:n])
    _, place = method(primals[0], own, own, traced)
    sharp, _ = jax.grad(loss_at, has_aux=True)(jax.tree.leaves(place))
    grads[:n] = jax.tree.leaves(method(primals[0], own, of_weights.unflatten(sharp), traced)[0])
  loss, aux, grads = _only_once((loss, aux, grads))
  slope = jnp.zeros_like(loss)
  for g, i in zip(grads, index, strict=True):
    if moves[i]:
      dtype = g.dtype if jnp.iscomplexobj(g) else _tree.wide_dtype(g)
      product = jnp.real(g.astype(dtype) * directions[i].astype(dtype))
      slope += _devices.sum_like(jnp.sum(product), loss).astype(loss.dtype)
  return (loss, aux), (slope, jax.tree.map(zero_from_primal, aux))


_CLOSED_OVER = (
  "sharp_loss: loss_fn closes over an array that is differentiated outside; pass it as an argument"
  " instead: sharp_loss(loss_fn)(params, array)"
)


@jax.custom_jvp
def _only_once(tree: Any) -> Any:
  return tree


@_only_once.defjvp
def _refuse(primals, tangents):
  raise TypeError(
    "sharp_loss: it can be differentiated once only, because its derivative is a gradient at perturbed"
    " params; differentiate loss_fn itself instead"
  )
