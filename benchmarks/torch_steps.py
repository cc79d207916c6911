"""Steps of PyTorch's SGD and of pytorch_optimizer's methods, which count their gradients.

They were run with pytorch_optimizer 4.1. An older LookSAM may count its steps in another way; then
the table shows more than 1.2 gradients a step.
"""

import os
from collections.abc import Callable

import jax
import pytorch_optimizer
import torch
from torch.nn import functional

from benchmarks import torch_models
from benchmarks.models import Model

RHO = 0.05
SGD = {"lr": 0.01, "momentum": 0.9}  # as the base of the methods in JAX


class Problem:
  """A model with its batch, on the kind of device that JAX uses. It counts the gradients."""

  def __init__(self, model: Model):
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    self.module = torch_models.make_module(model).to(device)
    self.inputs, self.labels = (x.to(device) for x in torch_models.make_batch(model))
    self.num_gradients = 0

  def loss_fn(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy. Every value that is computed is differentiated, so it counts."""
    self.num_gradients += 1
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())

  def closure(self) -> torch.Tensor:
    self.module.zero_grad()
    loss = self.loss_fn(self.module(self.inputs), self.labels)
    loss.backward()
    return loss

  def wait(self) -> None:
    """Waits for the steps that are queued on the device."""
    if self.inputs.is_cuda:
      torch.cuda.synchronize()


Step = Callable[[], None]


def _sgd(problem: Problem) -> torch.optim.Optimizer:
  return torch.optim.SGD(problem.module.parameters(), **SGD)


def _over_sgd(name: str, problem: Problem, **settings):
  build = getattr(pytorch_optimizer, name)
  return build(problem.module.parameters(), torch.optim.SGD, rho=RHO, **SGD, **settings)


def base_step(problem: Problem) -> Step:
  return _after_a_gradient(problem, _sgd(problem).step)


def lookahead_step(problem: Problem) -> Step:
  return _after_a_gradient(problem, pytorch_optimizer.Lookahead(_sgd(problem), k=5).step)


def sam_step(problem: Problem) -> Step:
  optimizer = _over_sgd("SAM", problem)
  return _after_a_gradient(problem, lambda: optimizer.step(problem.closure))


def friendly_sam_step(problem: Problem) -> Step:
  optimizer = _over_sgd("FriendlySAM", problem)
  return _after_a_gradient(problem, lambda: optimizer.step(problem.closure))


def looksam_step(problem: Problem) -> Step:
  """A step of LookSAM from its parts: its own ``step`` always computes the second gradient.

  Its equation differs from ours: it takes the norm of each param where ours takes one of all.
  """
  optimizer = _over_sgd("LookSAM", problem, k=5)

  def update():
    if optimizer.get_step() % 5 == 0:
      optimizer.first_step(zero_grad=True)
      problem.closure()
    optimizer.second_step()

  return _after_a_gradient(problem, update)


def gsam_step(problem: Problem) -> Step:
  """A step of GSAM, which computes both gradients itself."""
  base = _sgd(problem)
  rate = torch.optim.lr_scheduler.ConstantLR(base, factor=1.0)
  radius = pytorch_optimizer.ProportionScheduler(
    rate, max_lr=SGD["lr"], max_value=RHO, min_value=RHO
  )
  optimizer = pytorch_optimizer.GSAM(
    problem.module.parameters(), base, problem.module, radius, alpha=0.1
  )

  def step():
    optimizer.set_closure(problem.loss_fn, problem.inputs, problem.labels)
    optimizer.step()

  return step


def _after_a_gradient(problem: Problem, update: Callable) -> Step:
  def step():
    problem.closure()
    update()

  return step


STEPS = {  # by the name of our method
  "base": base_step,
  "sam": sam_step,
  "gsam": gsam_step,
  "friendly_sam": friendly_sam_step,
  "looksam(5)": looksam_step,
  "lookahead(5)": lookahead_step,
}


def use_all_cores() -> int:
  """Lets PyTorch use as many threads as XLA does, and returns how many."""
  affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
  torch.set_num_threads(len(affinity(0)) if affinity else os.cpu_count() or 1)
  return torch.get_num_threads()
