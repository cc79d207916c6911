"""What a run trains with: a method on a base optimizer, and a learning-rate schedule."""

import abc
import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal

from experiments.config.part import Inline, Part


@dataclasses.dataclass(frozen=True)
class Method(Part, abc.ABC):
  """A method's hyper-parameters; ``wrap`` puts it around, before or after a base optimizer."""

  # Fields that tuning varies besides the learning rate and the weight decay; ``wrap`` gets them
  # traced, so that their values share a compiled program.
  search: ClassVar[tuple[str, ...]] = ()
  closure: ClassVar[Literal["plain", "functional"]] = "plain"  # functional: of Functional SAM

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value, least = getattr(self, field.name), 1 if field.type in (int, "int") else 0
      if isinstance(value, int | float) and not least <= value < math.inf:
        raise ValueError(f"opt.{field.name} must be finite and at least {least}; got {value}")

  @property
  def gradients(self) -> float:
    """Gradients of a step, on average and without the estimates of IRE."""
    return 1.0

  @property
  def first_share(self) -> float:
    """Share of the batch that a step's first gradient is of; the closures are of all of it."""
    return 1.0

  @abc.abstractmethod
  def wrap(self, base: Any, steps: int, key: int) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Base(Part, abc.ABC):
  """A base optimizer's direction, decay of the weights included, before the learning rate."""

  schedule: ClassVar[str | None] = None  # the only schedule that it allows, if there is one
  moves_freely: ClassVar[bool] = True  # whether methods around it may move the params
  decays: ClassVar[tuple[str, ...]] = ()  # fields that are decay rates of averages, below 1

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value, most = getattr(self, field.name), 1 if field.name in self.decays else math.inf
      if isinstance(value, float) and not 0 <= value < most:
        raise ValueError(f"opt.{field.name} must be in [0, {most}); got {value}")

  @abc.abstractmethod
  def direction(self, weight_decay: float) -> Any: ...

  def around(self, scaled: Any, rate: Any) -> Any:
    """Wraps the scaled direction, where a base needs to; ``rate(paid)`` is the learning rate."""
    del rate
    return scaled


@dataclasses.dataclass(frozen=True)
class Opt(Part):
  method: Annotated[Method, Inline]
  base: Annotated[Base, Inline]
  learning_rate: float
  weight_decay: float
  clip: float | None = None  # largest global norm of the gradient that the base gets
  warmup: float = 0.0  # share of the budget over which the learning rate rises
  # tenths: /10 at each quarter; wsd: warm-up, stable, then linear decay over the last fifth.
  schedule: Literal["cosine", "tenths", "constant", "wsd"] = "cosine"
  restart: float | None = None  # share of the budget after which the cosine begins anew
  final: float = 0.0  # learning rate at the end of cosine and wsd, as a share of the peak

  def __post_init__(self):
    only = self.base.schedule
    if only not in (None, self.schedule):
      raise ValueError(f"{type(self.base).__name__} needs opt.schedule {only}")
    for name in ("learning_rate", "weight_decay"):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(f"opt.{name} must be finite and at least 0; got {getattr(self, name)}")
    if self.clip is not None and not 0 < self.clip < math.inf:
      raise ValueError(f"opt.clip must be finite and above 0; got {self.clip}")
    if not 0 <= self.warmup < 1:
      raise ValueError(f"opt.warmup must be in [0, 1); got {self.warmup}")
    if self.restart is not None and self.schedule != "cosine":
      raise ValueError(f"opt.restart needs opt.schedule cosine; got {self.schedule}")
    if self.restart is not None and not self.warmup < self.restart < 1:
      raise ValueError(f"opt.restart must be above opt.warmup and below 1; got {self.restart}")
    if not 0 <= self.final <= 1:
      raise ValueError(f"opt.final must be in [0, 1]; got {self.final}")
