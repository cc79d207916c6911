"""Measures times of data-parallel steps on all devices; ``benchmarks.growth`` runs it.

It prints the times as JSON:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m benchmarks.devices --rounds 3
"""

import argparse
import json

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks import timing
from benchmarks.contenders import Contender, contenders
from benchmarks.models import MLP

METHODS = ["sam", "ire(10), GNB", "sala", "lookbehind(5), fixed, unrolled"]


def make_run(contender: Contender, mesh: jax.sharding.Mesh) -> timing.Run:
  """Splits the batch over the devices and copies params and state to all of them."""
  everywhere = NamedSharding(mesh, PartitionSpec())
  batch = jax.device_put(MLP.make_batch(), NamedSharding(mesh, PartitionSpec("data")))
  carry = jax.device_put(contender.init(MLP.make_params()), everywhere)
  carry = jax.tree.map(jax.numpy.copy, carry)
  step = jax.jit(contender.make_step(MLP), donate_argnums=0, out_shardings=everywhere)
  compiled = step.lower(carry, *batch).compile()
  return timing.run_from(contender, compiled, carry, batch, block=True)


def main() -> None:
  timing.keep_freed_memory()
  parser = argparse.ArgumentParser(prog="python -m benchmarks.devices")
  parser.add_argument("--rounds", type=int, default=5)
  rounds = parser.parse_args().rounds
  mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
  runs = {c.name: make_run(c, mesh) for c in contenders(METHODS)}
  ratios = timing.interleave(runs, rounds)
  print(json.dumps([{"name": name, "time": r._asdict()} for name, r in ratios.items()]))


if __name__ == "__main__":
  main()
