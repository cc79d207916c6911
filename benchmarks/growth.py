"""Measures how costs grow with params, with the length of a cycle, and with devices."""

import functools
import json
import os
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flatopt
from benchmarks import program, timing
from benchmarks.contenders import Contender, Passes, base, contenders, flat
from benchmarks.models import MLP, Model

SIZES = (10**5, 10**6, 10**7, 10**8)
OWN_PART = (
  "sam",
  "asam",
  "gsam",
  "rst",
  "ire(10)",
  "lookahead",
  "sala",
  "lookbehind(5), fixed",
  "optax.contrib.sam, opaque",
)
SELECTION_SIZES = (20_000_000, 100_000_000)
DEVICES = (1, 2, 4, 8)


class Quadratic(Model):
  """A loss whose gradient is the params, so that a step costs only what the optimizer adds."""

  def loss_fn(self, params, inputs, labels):
    del inputs, labels
    return sum(jnp.sum(w * w) for w in params) / 2


def quadratic(size: int) -> Quadratic:
  """Makes a quadratic model with ``size`` params in four leaves."""

  def logits_fn(params, inputs):
    total = sum(map(jnp.sum, params))
    return jnp.stack([total, -total])[None] + inputs

  leaf = functools.partial(np.linspace, -1, 1, size // 4, dtype=np.float32)
  return Quadratic(
    f"{size:.0e}", lambda rng: [leaf() for _ in range(4)], logits_fn, (1, 1), (1,), num_classes=2
  )


def with_params(sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
  """Measures seconds per step and temporary memory, one contender at a time."""
  rows = []
  for size in sizes:
    model = quadratic(size)
    gradients = 10 if size < 10**7 else 1
    for contender in contenders(list(OWN_PART)):
      if "unrolled" in contender.name:
        continue
      cost, compiled = program.measure(contender, model)
      run = timing.make_run(contender, model, compiled, gradients)
      run()
      seconds = min(run() for _ in range(3 if size < 10**8 else 1))
      rows.append(
        {"size": size, "name": contender.name, "seconds": seconds, "temp_bytes": cost.temp_bytes}
      )
      _log(f"{size:.0e} params: {contender.name} {seconds:.2e} s")
      del run, compiled
  return rows


def of_k() -> dict[str, list[tuple[int, Contender]]]:
  """Returns the same method with several lengths of its cycle."""
  gnb = flatopt.curvature.gauss_newton_bartlett()
  sampled = Passes(1, sampled_gradients=1)
  lookbehind = lambda k: flatopt.lookbehind(base(), ascent_steps=k, interpolation=0.5)
  sala = lambda k: flatopt.sala(base(), sync_period=k, rho=1e3)
  ire = lambda k: optax.chain(base(), flatopt.ire(curvature=gnb, update_interval=k))
  return {
    "lookbehind, ascent_steps": [
      (k, flat(f"lookbehind({k})", lookbehind(k), 1 + k, Passes(1 + k))) for k in (1, 2, 5, 10)
    ],
    "sala, sync_period": [
      (k, flat(f"sala({k})", sala(k), 1 + 1 / k, Passes(2), k)) for k in (2, 5, 10, 20)
    ],
    "ire, update_interval": [
      (k, flat(f"ire({k})", ire(k), 1 + 1 / k, sampled, k)) for k in (1, 2, 5, 10, 20)
    ],
  }


def with_k(rounds: int) -> list[dict[str, Any]]:
  """Measures the time relative to the base, on the MLP."""
  runs = {"base": _run_of(flat("base", base(), 1, Passes(1)))}
  rows = []
  for name, series in of_k().items():
    for k, contender in series:
      cost, compiled = program.measure(contender, MLP)
      runs[contender.name] = timing.make_run(contender, MLP, compiled)
      rows.append({"series": name, "k": k, "name": contender.name, "temp_bytes": cost.temp_bytes})
  ratios = timing.interleave(runs, rounds)
  return [row | {"time": ratios[row["name"]]._asdict()} for row in rows]


def _run_of(contender: Contender) -> timing.Run:
  return timing.make_run(contender, MLP, program.compile_step(contender, MLP))


def with_devices(rounds: int, counts: tuple[int, ...] = DEVICES) -> list[dict[str, Any]]:
  """Measures the time relative to the base on virtual devices of the CPU.

  Each number of devices needs its own process.
  """
  rows = []
  for count in counts:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    done = subprocess.run(
      [sys.executable, "-m", "benchmarks.devices", "--rounds", str(rounds)],
      env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
      stdout=subprocess.PIPE,
      check=True,
      text=True,
    )
    rows += [{"devices": count} | row for row in json.loads(done.stdout)]
    _log(f"{count} devices")
  return rows


def of_selection(sizes: tuple[int, ...] = SELECTION_SIZES) -> list[dict[str, Any]]:
  """Measures ``kth_smallest``, NumPy's partition and a sort, and whether their results agree."""
  rows = []
  for size in sizes:
    rank = size * 4 // 5
    x = jax.random.normal(jax.random.key(0), (size,))
    by_counting = jax.jit(lambda x, rank=rank: flatopt.kth_smallest(x, rank))
    by_sorting = jax.jit(lambda x, rank=rank: jnp.sort(x)[rank - 1])
    on_host = np.asarray(x)
    by_partition = lambda on_host=on_host, rank=rank: np.partition(on_host, rank - 1)[rank - 1]
    row = {
      "size": size,
      "kth_smallest": timing.once(lambda f=by_counting, x=x: f(x)),
      "numpy.partition": timing.once(by_partition),
    }
    value, start = by_counting(x), time.perf_counter()
    sorted_value = jax.block_until_ready(by_sorting(x))  # with its compilation, which takes seconds
    row |= {
      "jax.numpy.sort": time.perf_counter() - start,
      "same": bool(value == sorted_value == by_partition()),
    }
    rows.append(row)
    _log(str(row))
  return rows


def _log(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
