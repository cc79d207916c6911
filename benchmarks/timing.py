"""Interleaved times of compiled steps, as ratios to the base's, with distribution-free intervals."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax

from benchmarks.contenders import Contender
from benchmarks.models import Model

GRADIENTS_A_RUN = 10  # at least, and whole periods of the contender
BASE_EVERY = 4  # contenders between two runs of the base


class Ratio(NamedTuple):
  """Median of time over the base's, and an interval that holds it in ``coverage`` of cases."""

  median: float
  low: float
  high: float
  coverage: float
  seconds: float  # of a step, median


Run = Callable[[], float]  # seconds of a step


def make_run(
  contender: Contender,
  model: Model,
  compiled: jax.stages.Compiled,
  gradients: int = GRADIENTS_A_RUN,
) -> Run:
  batch = model.make_batch()
  # The init's results may share buffers with the params, which cannot be donated twice.
  carry = jax.tree.map(jax.numpy.copy, contender.init(model.make_params()))
  return run_from(contender, compiled, carry, batch, gradients=gradients)


def run_from(contender, compiled, carry, batch, *, gradients=GRADIENTS_A_RUN, block=False) -> Run:
  """``block`` waits for each step, as virtual devices need it: their queued steps can deadlock."""
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


def interleave(runs: Mapping[str, Run], rounds: int, base: str = "base") -> dict[str, Ratio]:
  """Runs all in turn, ``rounds`` times.

  The base runs before and after every few of the others, and each is compared with the mean of
  the two next to it, so that a slow spell of the machine falls on both. Every other round goes
  backwards, so that a slow trend does, too.
  """
  for run in runs.values():  # past SALA's first stage, and past any lazy set-up
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
  return (names[i : i + size] for i in range(0, len(names), size))


def _ratio(ratios: list[float], seconds: list[float]) -> Ratio:
  low, high, coverage = median_interval(ratios)
  return Ratio(statistics.median(ratios), low, high, coverage, statistics.median(seconds))


def median_interval(values: list[float], wanted: float = 0.95) -> tuple[float, float, float]:
  """The narrowest pair of order statistics around the median that covers it as often as wanted.

  The number of values below the median is binomial whatever their distribution. Few values may
  not reach ``wanted``: then their range, and what it covers.
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
  """Median seconds of a call, after one that is not counted."""
  jax.block_until_ready(fn())
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(fn())
    times.append(time.perf_counter() - start)
  return statistics.median(times)
