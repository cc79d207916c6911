"""The config of a run: data, model, optimizer and training."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import tyro

from experiments.config.data import Data
from experiments.config.optimizer import Opt
from experiments.config.part import Part


@dataclasses.dataclass(frozen=True)
class Model(Part):
  """A model's shape; its fields are ``module``'s, which also takes ``classes`` and ``dtype``."""

  module: ClassVar[Any]

  def build(self, classes: int, dtype: Any) -> Any:
    shape = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return self.module(**shape, classes=classes, dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Training(Part):
  budget: int  # in ``unit``
  unit: Literal["gradients", "steps"] = "gradients"
  seed: int = 0
  label_smoothing: float = 0.0
  microbatches: int = 1  # number of parts of a batch over which its gradient is accumulated
  compute_dtype: Literal["float32", "bfloat16"] = (
    "float32"  # of the model's computations; params stay float32
  )
  fsdp: int = 1  # number of devices over which params and optimizer state are split
  log_every: int = 10  # steps between log lines
  evaluations: int = 10  # number of evaluations, at equal shares of the budget
  checkpoint_every: int = 200  # steps between checkpoints
  start_from: str | None = None  # directory of a finished run, relative to this run's
  wandb: str | None = None  # project of Weights & Biases that gets the metrics too

  def __post_init__(self):
    counts = "budget", "microbatches", "fsdp", "log_every", "evaluations", "checkpoint_every"
    for name in counts:
      if getattr(self, name) < 1:
        raise ValueError(f"training.{name} must be at least 1; got {getattr(self, name)}")
    if self.seed < 0:
      raise ValueError(f"training.seed must be at least 0; got {self.seed}")
    if self.seed >= 2**32:  # jax.random.key would take the remainder
      raise ValueError(f"training.seed must be below 2**32; got {self.seed}")
    if not 0 <= self.label_smoothing < 1:
      raise ValueError(f"training.label_smoothing must be in [0, 1); got {self.label_smoothing}")


@dataclasses.dataclass(frozen=True)
class Config(Part):
  name: Annotated[str, tyro.conf.Suppress]
  data: Data
  model: Model
  opt: Opt
  training: Training

  def steps(self) -> int:
    """About how many steps the budget allows."""
    a_step = self.opt.method.gradients if self.training.unit == "gradients" else 1
    return int(self.training.budget // a_step)

  def gradients(self) -> int:
    """About how many gradients a run pays, without the estimates of IRE."""
    if self.training.unit == "gradients":
      return self.training.budget
    return round(self.training.budget * self.opt.method.gradients)
