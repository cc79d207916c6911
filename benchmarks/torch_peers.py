"""Measures the methods of pytorch_optimizer on the MLP, relative to PyTorch's SGD.

PyTorch is not a dependency. ``pip install torch pytorch_optimizer`` adds these rows.
"""

import importlib.util
import itertools
import math
import time

import numpy as np

from benchmarks import timing
from benchmarks.models import MLP, WIDTHS

RHO = 0.05


def available() -> bool:
  return all(importlib.util.find_spec(name) for name in ("torch", "pytorch_optimizer"))


def measure(rounds: int) -> dict[str, timing.Ratio]:
  """Returns time / time of PyTorch's SGD with momentum by name, or nothing without PyTorch."""
  return timing.interleave(_runs(), rounds) if rounds and available() else {}


def _runs() -> dict[str, timing.Run]:
  """Makes the runs of PyTorch's SGD and of pytorch_optimizer's methods."""
  import pytorch_optimizer
  import torch

  inputs, labels = (torch.from_numpy(np.array(x)) for x in MLP.make_batch())
  labels = labels.long()
  loss_fn = torch.nn.CrossEntropyLoss()
  settings = {"lr": 0.01, "momentum": 0.9}

  def make_model():
    layers = [torch.nn.Linear(m, n) for m, n in itertools.pairwise(WIDTHS)]
    pairs = ((layer, torch.nn.ReLU()) for layer in layers)
    return torch.nn.Sequential(*itertools.chain.from_iterable(pairs))[:-1]

  def over_sgd(method, **more):
    build = getattr(pytorch_optimizer, method)
    return lambda model: build(model.parameters(), torch.optim.SGD, rho=RHO, **settings, **more)

  def make_run(make_optimizer, gradients, period=1, *, takes_closure=True):
    model = make_model()
    optimizer = make_optimizer(model)

    def closure():
      optimizer.zero_grad()
      loss = loss_fn(model(inputs), labels)
      loss.backward()
      return loss

    def step():
      closure()
      optimizer.step(closure) if takes_closure else optimizer.step()

    return _repeated(step, gradients, period)

  def make_looksam_run():
    """Makes a run of LookSAM from its parts: its ``step`` computes two gradients each time."""
    model = make_model()
    optimizer = over_sgd("LookSAM", k=5)(model)

    def step():
      optimizer.zero_grad()
      loss_fn(model(inputs), labels).backward()
      if optimizer.get_step() % 5 == 0:
        optimizer.first_step(zero_grad=True)
        loss_fn(model(inputs), labels).backward()
      optimizer.second_step()

    return _repeated(step, 1.2, 5)

  def make_gsam_run():
    """Makes a run of GSAM, which computes the first gradient itself."""
    model = make_model()
    base = torch.optim.SGD(model.parameters(), **settings)
    rate = torch.optim.lr_scheduler.ConstantLR(base, factor=1.0)
    radius = pytorch_optimizer.ProportionScheduler(rate, max_lr=0.01, max_value=RHO, min_value=RHO)
    optimizer = pytorch_optimizer.GSAM(model.parameters(), base, model, radius, alpha=0.1)

    def step():
      optimizer.set_closure(loss_fn, inputs, labels)
      optimizer.step()

    return _repeated(step, 2, 1)

  sgd = lambda model: torch.optim.SGD(model.parameters(), **settings)
  return {
    "base": make_run(sgd, 1, takes_closure=False),
    "pytorch_optimizer.SAM": make_run(over_sgd("SAM"), 2),
    "pytorch_optimizer.GSAM": make_gsam_run(),
    "pytorch_optimizer.LookSAM(5)": make_looksam_run(),
    "pytorch_optimizer.FriendlySAM": make_run(over_sgd("FriendlySAM"), 2),
    "pytorch_optimizer.Lookahead(5)": make_run(
      lambda model: pytorch_optimizer.Lookahead(sgd(model), k=5), 1, 5, takes_closure=False
    ),
  }


def _repeated(step, gradients, period) -> timing.Run:
  """Makes a run of whole periods of a step."""
  import torch

  steps = period * math.ceil(timing.GRADIENTS_PER_RUN / (gradients * period))

  def run() -> float:
    start = time.perf_counter()
    for _ in range(steps):
      step()
    if torch.cuda.is_available():
      torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps

  return run
