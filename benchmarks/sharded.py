"""Compiles the step of a Llama for many devices, from shapes only: no array is allocated.

    XLA_FLAGS=--xla_force_host_platform_device_count=64 python -m benchmarks.sharded --size 8b

It prints one line of JSON for each method. ``benchmarks.scale`` makes the table.
"""

import argparse
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks import collectives, models
from benchmarks.contenders import Contender, Passes, contenders
from benchmarks.models import LlamaSize, Model
from benchmarks.program import tree_bytes
from flatopt import closures

SIZES = {  # size, and length of a sequence
  "8b": (LlamaSize(128_256, 4096, 32, 32, 8, 14_336), 2048),
  "small": (LlamaSize(64, 32, 2, 4, 2, 64), 16),
}
DATA, MODEL = "data", "model"
# The axes after the axis of layers. Over "data", params are stored in parts but used whole (FSDP);
# over "model", they are also used in parts (tensor parallelism).
SPECS = {
  "embedding": (MODEL, DATA),
  "head": (DATA, MODEL),
  **dict.fromkeys(("query", "key", "value", "gate", "up"), (None, DATA, MODEL)),
  **dict.fromkeys(("attention_out", "down"), (None, MODEL, DATA)),
}


def make_mesh(model_parallel: int) -> Mesh:
  shape = jax.device_count() // model_parallel, model_parallel
  return jax.make_mesh(shape, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def sharding_of(mesh: Mesh, path: tuple[Any, ...], leaf: Any) -> NamedSharding:
  """Returns the sharding of a param by its name, also for arrays like it in a state."""
  names = [entry.key for entry in path if hasattr(entry, "key")]
  spec = SPECS.get(names[-1], ()) if names and leaf.ndim else ()
  return NamedSharding(mesh, PartitionSpec(*spec))


def with_shardings(mesh: Mesh, tree: Any) -> Any:
  """Returns the shapes of a tree, with shardings."""
  place = lambda path, x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=sharding_of(mesh, path, x)
  )
  return jax.tree_util.tree_map_with_path(place, tree)


def make_model(mesh: Mesh, size: LlamaSize, length: int) -> Model:
  """Makes the Llama, with one sequence per device."""
  over_data = NamedSharding(mesh, PartitionSpec(DATA))
  logits_fn = functools.partial(
    models.llama_logits,
    size=size,
    remat=True,
    constrain=lambda x: jax.lax.with_sharding_constraint(x, over_data),
  )
  shape = jax.device_count(), length  # one sequence per device
  return models.LLAMA._replace(
    logits_fn=logits_fn, input_shape=shape, label_shape=shape, num_classes=size.vocabulary
  )


def params_of(mesh: Mesh, size: LlamaSize) -> Any:
  """Returns the shapes of the params, with shardings."""
  is_shape = lambda x: isinstance(x, tuple)
  struct = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  return with_shardings(mesh, jax.tree.map(struct, models.llama_shapes(size), is_leaf=is_shape))


def batch_of(mesh: Mesh, model: Model) -> tuple[Any, Any]:
  """Returns the shapes of a batch, with shardings."""
  over_data = NamedSharding(mesh, PartitionSpec(DATA))
  tokens = jax.ShapeDtypeStruct(model.input_shape, jnp.int32, sharding=over_data)
  return tokens, tokens


def compile_step(contender: Contender, mesh: Mesh, size: LlamaSize, length: int):
  model = make_model(mesh, size, length)
  carry = with_shardings(mesh, jax.eval_shape(contender.init, params_of(mesh, size)))
  out_shardings = jax.tree.map(lambda x: x.sharding, carry)
  step = jax.jit(contender.make_step(model), donate_argnums=0, out_shardings=out_shardings)
  return step.lower(carry, *batch_of(mesh, model)).compile()


def compile_passes(mesh: Mesh, size: LlamaSize, length: int) -> dict[str, Any]:
  """Each of the passes of ``Passes`` by itself, with its result sharded like the params."""
  model, params = make_model(mesh, size, length), params_of(mesh, size)
  out_shardings = jax.tree.map(lambda x: x.sharding, params)

  def gradient(params, inputs, labels):
    return jax.grad(model.loss_fn)(params, inputs, labels)

  def sampled_gradient(params, inputs, labels):
    del labels
    return closures.sampled_label_grad_fn(model.logits_fn, inputs)(params, jax.random.key(0))

  def product(params, inputs, labels, vector):
    return jax.jvp(lambda p: gradient(p, inputs, labels), (params,), (vector,))[1]

  def compiled(fn, *more):
    args = params, *batch_of(mesh, model), *more
    return jax.jit(fn, out_shardings=out_shardings).lower(*args).compile()

  return {
    "gradients": compiled(gradient),
    "sampled_gradients": compiled(sampled_gradient),
    "products": compiled(product, params),
  }


BytesByKind = dict[str, int]


def communication(compiled: jax.stages.Compiled) -> tuple[BytesByKind, int]:
  """Returns the bytes of arrays by kind of collective, and the scalars, of a step on one device."""
  exchanged = collectives.collectives(compiled.as_text())
  return collectives.bytes_by_kind(exchanged), collectives.num_scalars(exchanged)


def beyond_passes(
  arrays: BytesByKind, passes: Passes, bytes_of_pass: dict[str, BytesByKind]
) -> BytesByKind:
  """Returns the bytes that a program sends in addition to its passes; kinds with 0 are left out."""
  own = {}
  for kind, num_bytes in arrays.items():
    by_passes = sum(n * bytes_of_pass[p].get(kind, 0) for p, n in passes._asdict().items())
    if num_bytes > by_passes:
      own[kind] = num_bytes - by_passes
  return own


def measure(contender, mesh, size, length, bytes_of_pass) -> dict[str, Any]:
  """Compiles the step of a contender; returns its memory and communication."""
  compiled = compile_step(contender, mesh, size, length)
  memory = compiled.memory_analysis()
  arrays, scalars = communication(compiled)
  return {
    "name": contender.name,
    "passes": contender.passes._asdict(),
    "argument_bytes": memory.argument_size_in_bytes,
    "output_bytes": memory.output_size_in_bytes,
    "alias_bytes": memory.alias_size_in_bytes,
    "temp_bytes": memory.temp_size_in_bytes,
    "params_bytes": tree_bytes(params_of(mesh, size)) // jax.device_count(),
    "arrays": arrays,
    "beyond_passes": beyond_passes(arrays, contender.passes, bytes_of_pass),
    "scalars": scalars,
  }


def main() -> None:
  parser = argparse.ArgumentParser(prog="python -m benchmarks.sharded")
  parser.add_argument("--size", choices=SIZES, default="small")
  parser.add_argument("--model-parallel", type=int, default=1)
  parser.add_argument("--only", nargs="+")
  arguments = parser.parse_args()
  mesh, (size, length) = make_mesh(arguments.model_parallel), SIZES[arguments.size]
  passes = compile_passes(mesh, size, length)
  bytes_of_pass = {name: communication(compiled)[0] for name, compiled in passes.items()}
  for contender in contenders(arguments.only, lambda: optax.adamw(1e-3)):
    row = measure(contender, mesh, size, length, bytes_of_pass)
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
  main()
