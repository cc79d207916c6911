"""Measures compiled steps in turn, and divides their times by the time of the base's step."""

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax

from benchmarks.contenders import Contender
from benchmarks.models import Model

GRADIENTS_PER_RUN = 10  # a run is a number of whole periods with at least this many gradients
BASE_EVERY = 4  # the number of other contenders between two runs of the base
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # options of glibc's mallopt


class Ratio(NamedTuple):
  """The median of time / time of the base, and an interval with probability ``coverage`` for it."""

  median: float
  low: float
  high: float
  coverage: float
  seconds: float  # median time of a step


Run = Callable[[], float]  # runs some steps and returns the seconds per step


def make_run(
  contender: Contender,
  model: Model,
  compiled: jax.stages.Compiled,
  gradients: int = GRADIENTS_PER_RUN,
) -> Run:
  """Makes a run of a compiled step, with a new batch and a new carry."""
  batch = model.make_batch()
  # A copy, because the state may share buffers with the params, which cannot be donated twice.
  carry = jax.tree.map(jax.numpy.copy, contender.init(model.make_params()))
  return run_from(contender, compiled, carry, batch, gradients=gradients)


def run_from(contender, compiled, carry, batch, *, gradients=GRADIENTS_PER_RUN, block=False) -> Run:
  """Makes a run. ``block`` waits for each step: queued steps of virtual devices can deadlock."""
  steps = contender.period * math.ceil(gradients / (contender.gradients * contender.period))

  def run() -> float:
    nonlocal carry
    start = time.perf_counter()
    for _ in range(steps * contender.calls):
      carry = compiled(carry, *batch)
      if block:
        jax.block_until_ready(carry)
    jax.block_until_ready(carry)
    return (time.perf_counter() - start) / steps

  return run


def keep_freed_memory() -> None:
  """Lets the process keep the memory that it frees, where the C library is glibc.

  glibc gives large blocks back to the system, and the next step pays for fresh pages. How much a
  step pays depends on what the process freed before, so it differs from process to process. Call
  it before JAX starts its threads, each of which would otherwise free memory in its own way.
  """
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt:
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_MMAP_THRESHOLD, 2**31 - 1)


def interleave(runs: Mapping[str, Run], rounds: int, base: str = "base") -> dict[str, Ratio]:
  """Runs all contenders in turn, ``rounds`` times.

  The base runs before and after every few contenders, and the time of a contender is divided by the
  mean of these two, so that both are slow when the machine is. Every other round runs in reverse
  order, so that a slow trend affects all contenders equally.
  """
  for run in runs.values():  # not measured: SALA's first stage, lazy set-up, fresh pages
    run()
  others = [name for name in runs if name != base]
  ratios: dict[str, list[float]] = {name: [] for name in runs}
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for i in range(rounds):
    order = others[:: -1 if i % 2 else 1]
    before = runs[base]()
    seconds[base].append(before)
    for group in _groups(order, BASE_EVERY):
      times = {name: runs[name]() for name in group}
      after = runs[base]()
      ratios[base].append(after / before)
      for name, t in times.items():
        ratios[name].append(2 * t / (before + after))
        seconds[name].append(t)
      seconds[base].append(after)
      before = after
  return {name: _ratio(ratios[name], seconds[name]) for name in runs if seconds[name]}


def _groups(names: list[str], size: int) -> Iterable[list[str]]:
  """Cuts the names into groups of at most ``size``."""
  return (names[i : i + size] for i in range(0, len(names), size))


def _ratio(ratios: list[float], seconds: list[float]) -> Ratio:
  """Summarises the ratios and times of one contender."""
  low, high, coverage = median_interval(ratios)
  return Ratio(statistics.median(ratios), low, high, coverage, statistics.median(seconds))


def median_interval(values: list[float], wanted: float = 0.95) -> tuple[float, float, float]:
  """Returns the narrowest interval of order statistics for the median, and its coverage.

  The number of values below the true median has a binomial distribution, whatever the distribution
  of the values. If there are too few values for the coverage ``wanted``, the interval is their
  range.
  """
  ordered, n = sorted(values), len(values)
  best = ordered[0], ordered[-1], 1 - 2 * 0.5**n
  for drop in range(1, (n + 1) // 2):
    outside = 2 * sum(math.comb(n, i) for i in range(drop + 1)) * 0.5**n
    if 1 - outside < wanted:
      break
    best = ordered[drop], ordered[n - 1 - drop], 1 - outside
  return best


def once(fn: Callable[[], Any], repeats: int = 3) -> float:
  """Returns the median seconds of a call, after one call that is not measured."""
  jax.block_until_ready(fn())
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(fn())
    times.append(time.perf_counter() - start)
  return statistics.median(times)
