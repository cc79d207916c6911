"""What a step costs by its compiled program, which no other load on the machine disturbs."""

import time
from typing import Any, NamedTuple

import jax

from benchmarks.contenders import Contender
from benchmarks.models import Model


class Cost(NamedTuple):
  """Of one step. ``None`` where this backend does not tell.

  flops, bytes_accessed: by XLA's count; of a conditional the dearest branch, of a loop one turn.
  temp_bytes: the largest buffer space that the step needs beside its arguments and results.
  state_bytes: what is kept between steps, params aside.
  """

  flops: float | None
  bytes_accessed: float | None
  temp_bytes: int | None
  state_bytes: int
  compile_seconds: float


def tree_bytes(tree: Any) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def shapes(contender: Contender, model: Model) -> tuple[Any, Any]:
  """Of the params and of the carry; nothing is computed on a device."""
  params = jax.eval_shape(model.make_params)
  return params, jax.eval_shape(contender.init, params)


def num_params(model: Model) -> int:
  return sum(x.size for x in jax.tree.leaves(jax.eval_shape(model.make_params)))


def state_bytes(contender: Contender, model: Model) -> int:
  params, carry = shapes(contender, model)
  return tree_bytes(carry) - tree_bytes(params)


def compile_step(contender: Contender, model: Model) -> jax.stages.Compiled:
  """The step with its carry donated, as in training."""
  _, carry = shapes(contender, model)
  batch = jax.eval_shape(model.make_batch)
  return jax.jit(contender.make_step(model), donate_argnums=0).lower(carry, *batch).compile()


def measure(contender: Contender, model: Model) -> tuple[Cost, jax.stages.Compiled]:
  start = time.perf_counter()
  compiled = compile_step(contender, model)
  compile_seconds = time.perf_counter() - start
  analysis = _analysis(compiled.cost_analysis)
  if isinstance(analysis, list):  # one for each device program, in some versions
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
  """What a compiled program tells about itself; backends may refuse."""
  try:
    return method()
  except (NotImplementedError, RuntimeError):
    return None
