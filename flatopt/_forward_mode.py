"""``jax.jvp`` with a clear error for models whose custom gradients have no forward mode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import Jaxpr, jaxpr_as_fun, subjaxprs
from jax.interpreters import partial_eval

from flatopt import _arguments

MODES = ("forward-reverse", "reverse-reverse")


def check_mode(method: str, mode: Any) -> None:
  """Checks the argument ``mode``, which selects how a product is differentiated."""
  if mode not in MODES:
    raise ValueError(f"{method}: mode must be one of {MODES}; got {_arguments.describe(mode)}")


def jvp(method: str, remedy: str, fn: Callable, primals: tuple, tangents: tuple) -> Any:
  """``jax.jvp``. If ``fn`` contains a ``custom_vjp``, which has no jvp, the error has a remedy."""
  message = f"{method}: JAX cannot differentiate a custom_vjp function in forward mode; {remedy}"
  if not isinstance(jnp.zeros(()), Tracer):
    try:
      return jax.jvp(fn, primals, tangents)
    except TypeError as error:
      if "custom_vjp" not in str(error):
        raise
      raise TypeError(message) from error
  # Under jit JAX would raise its error only later, when it lowers code that is not dead.
  products, shapes = jax.make_jaxpr(lambda *at: jax.jvp(fn, *at), return_shape=True)(
    primals, tangents
  )
  live, _ = partial_eval.dce_jaxpr(products.jaxpr, [True] * len(products.jaxpr.outvars))
  if _has_no_forward_mode(live):
    raise TypeError(message)
  leaves = jaxpr_as_fun(products)(*jax.tree.leaves((primals, tangents)))
  return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _has_no_forward_mode(jaxpr: Jaxpr) -> bool:
  """Whether the program contains JAX's placeholder for the derivative of a custom_vjp function."""
  own = any(equation.primitive.name == "custom_lin" for equation in jaxpr.eqns)
  return own or any(_has_no_forward_mode(sub) for sub in subjaxprs(jaxpr))
