"""Reads the costs of a step from its compiled program, so other load has no effect on them."""

import time
from typing import Any, NamedTuple

import jax

from benchmarks.contenders import Contender
from benchmarks.models import Model


class Cost(NamedTuple):
  """The costs of one step. A value is ``None`` if the backend does not report it.

  flops, bytes_accessed: counted by XLA, with the most expensive branch of a conditional and one
    iteration of a loop.
  temp_bytes: the largest memory that the step needs in addition to its arguments and results.
  state_bytes: what is kept between steps, without the params.
  """

  flops: float | None
  bytes_accessed: float | None
  temp_bytes: int | None
  state_bytes: int
  compile_seconds: float


def tree_bytes(tree: Any) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def shapes(contender: Contender, model: Model) -> tuple[Any, Any]:
  """Returns the shapes of the params and of the carry, without computing them."""
  params = jax.eval_shape(model.make_params)
  return params, jax.eval_shape(contender.init, params)


def num_params(model: Model) -> int:
  return sum(x.size for x in jax.tree.leaves(jax.eval_shape(model.make_params)))


def state_bytes(contender: Contender, model: Model) -> int:
  """Returns the bytes of the carry without the params."""
  params, carry = shapes(contender, model)
  return tree_bytes(carry) - tree_bytes(params)


def compile_step(contender: Contender, model: Model) -> jax.stages.Compiled:
  """Compiles the step. Its carry is donated, as in training."""
  _, carry = shapes(contender, model)
  batch = jax.eval_shape(model.make_batch)
  return jax.jit(contender.make_step(model), donate_argnums=0).lower(carry, *batch).compile()


def measure(contender: Contender, model: Model) -> tuple[Cost, jax.stages.Compiled]:
  """Compiles a step; returns its costs and the compiled step."""
  start = time.perf_counter()
  compiled = compile_step(contender, model)
  compile_seconds = time.perf_counter() - start
  analysis = _analysis(compiled.cost_analysis)
  if isinstance(analysis, list):  # some versions of JAX return one per device program
    analysis = analysis[0] if analysis else None
  per_step = lambda name: analysis[name] * contender.calls if name in (analysis or {}) else None
  cost = Cost(
    flops=per_step("flops"),
    bytes_accessed=per_step("bytes accessed"),
    temp_bytes=getattr(_analysis(compiled.memory_analysis), "temp_size_in_bytes", None),
    state_bytes=state_bytes(contender, model),
    compile_seconds=compile_seconds,
  )
  return cost, compiled


def _analysis(method):
  """Returns an analysis of a compiled program, or ``None`` if the backend does not support it."""
  try:
    return method()
  except (NotImplementedError, RuntimeError):  # what JAX raises where a backend has none
    return None
