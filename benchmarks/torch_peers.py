"""Measures the methods of pytorch_optimizer on the same models, relative to PyTorch's SGD.

PyTorch is not a dependency. ``pip install torch pytorch_optimizer`` adds these rows.
"""

import importlib.metadata
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Container
from typing import Any

from benchmarks import timing
from benchmarks.contenders import contenders
from benchmarks.models import Model

PACKAGES = ("torch", "pytorch_optimizer")
PEERS = {  # of ours by name
  "base": "torch.optim.SGD",
  "sam": "SAM",
  "gsam": "GSAM",
  "friendly_sam": "FriendlySAM",
  "looksam(5)": "LookSAM(5)",
  "lookahead(5)": "Lookahead(5)",
}


def available() -> bool:
  return all(importlib.util.find_spec(name) for name in PACKAGES)


def measure(model: Model, names: Container[str], rounds: int) -> dict[str, Any]:
  """Measures the base and the peers of our methods ``names``.

  Returns:
    ``{"versions", "threads", "rows"}``, with ``peer``, ``gradients`` and ``time`` by the name of
    our method; nothing without PyTorch, without rounds or if none of the methods has a peer.
  """
  pairs = [c for c in contenders() if c.name in PEERS and (c.name == "base" or c.name in names)]
  if not rounds or not available() or len(pairs) == 1:
    return {}
  from benchmarks import torch_steps

  threads = torch_steps.use_all_cores()
  rows, runs = {}, {}
  for ours in pairs:
    print(f"{model.name}: {PEERS[ours.name]}", file=sys.stderr, flush=True)
    problem = torch_steps.Problem(model)
    step = torch_steps.STEPS[ours.name](problem)
    count = lambda problem=problem: problem.num_gradients
    gradients = gradients_per_step(step, count, ours.period)
    rows[ours.name] = {"peer": PEERS[ours.name], "gradients": gradients}
    runs[ours.name] = make_run(step, gradients, ours.period, problem.wait)
  for name, ratio in timing.interleave(runs, rounds).items():
    rows[name]["time"] = ratio._asdict()
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  return {"versions": versions, "threads": threads, "rows": rows}


def gradients_per_step(step: Callable[[], None], count: Callable[[], int], period: int) -> float:
  """Runs a period of steps and returns how many gradients a step computed on average."""
  before = count()
  for _ in range(period):
    step()
  return (count() - before) / period


def make_run(
  step: Callable[[], None], gradients: float, period: int, wait: Callable[[], None]
) -> timing.Run:
  """Makes a run of whole periods of a step. ``wait`` returns when its steps are done."""
  steps = period * math.ceil(timing.GRADIENTS_PER_RUN / (gradients * period))

  def run() -> float:
    start = time.perf_counter()
    for _ in range(steps):
      step()
    wait()
    return (time.perf_counter() - start) / steps

  return run
