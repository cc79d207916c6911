"""What a run is made of: frozen dataclasses, every default in sight, to JSON and back."""

import abc
import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal

import tyro

# Options of what a config chose stand beside the others: --opt.rho, not --opt.method.rho.
Inline = tyro.conf.arg(name="")


class Part:
  """Dataclasses of a config, found again by their names when a run directory is read."""

  types: ClassVar[dict[str, type]] = {}

  def __init_subclass__(cls):
    if Part.types.setdefault(cls.__name__, cls).__module__ != cls.__module__:
      raise TypeError(f"two parts of a config are called {cls.__name__}")


class Refusal(Exception):
  """What the user can mend, said in one line."""

  code = 2  # that the program exits with


def reason(error: Exception) -> str:
  """Its first line."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


@dataclasses.dataclass(frozen=True)
class DataSet(Part, abc.ABC):
  """A data set with its options; ``source(split)`` gives random access to its examples."""

  task: ClassVar[Literal["classification", "next_token"]]
  about: ClassVar[str]  # for `list`

  @property
  @abc.abstractmethod
  def classes(self) -> int: ...

  @abc.abstractmethod
  def source(self, split: Literal["train", "test"]) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Model(Part):
  """A model's shape; its fields are ``module``'s, which also takes ``classes`` and ``dtype``."""

  module: ClassVar[Any]

  def build(self, classes: int, dtype: Any) -> Any:
    shape = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return self.module(**shape, classes=classes, dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Augment(Part):
  """What training images go through, in this order; 0 is off."""

  size: int = 0  # of a box cut out and resized, in pixels; evaluation sees the central square
  crop: int = 0  # pixels that are padded before the image's own size is cut out
  flip: bool = False
  cutout: int = 0  # side of the square that turns grey, in pixels
  mixup: float = 0.0  # both parameters of the Beta distribution that weights are drawn from

  def __post_init__(self):
    for name in ("size", "crop", "cutout", "mixup"):
      value = getattr(self, name)
      if not 0 <= value < math.inf:
        raise ValueError(f"data.augment.{name} must be finite and at least 0; got {value}")


@dataclasses.dataclass(frozen=True)
class Lifelong(Part):
  """Class-incremental learning: the seed deals the classes to tasks, and a run trains on one."""

  tasks: int = 1
  task: int = 0
  replay: int = 0  # examples of earlier tasks in memory, which half of all draws are from

  def __post_init__(self):
    if not 0 <= self.task < self.tasks:
      raise ValueError(f"lifelong.task must be in [0, {self.tasks}); got {self.task}")
    if self.replay < 0:
      raise ValueError(f"lifelong.replay must be at least 0; got {self.replay}")


@dataclasses.dataclass(frozen=True)
class Data(Part):
  set: Annotated[DataSet, Inline]
  batch_size: int = 128  # over all devices
  wrong_labels: float = 0.0  # share of the training labels
  held_out: float = 0.0  # share of the training set to evaluate on, in place of the test set
  test_examples: int | None = None  # evaluated on; all where none are named
  augment: Augment = Augment()
  lifelong: Lifelong = Lifelong()

  def __post_init__(self):
    for name in ("batch_size", "test_examples"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f"data.{name} must be at least 1; got {value}")
    for name in ("wrong_labels", "held_out"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(f"data.{name} must be in [0, 1); got {getattr(self, name)}")
    if self.set.task != "classification" and self.augment != Augment():
      raise ValueError(f"data.augment is for images; got {self.augment} for text")


@dataclasses.dataclass(frozen=True)
class Method(Part, abc.ABC):
  """A method's hyper-parameters; ``wrap`` puts it around, before or after a base optimizer."""

  search: ClassVar[tuple[str, ...]] = ()  # what tuning varies besides the learning rate

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value, least = getattr(self, field.name), 1 if field.type is int else 0
      if isinstance(value, int | float) and not least <= value < math.inf:
        raise ValueError(f"opt.{field.name} must be finite and at least {least}; got {value}")

  @property
  def gradients(self) -> float:
    """Of a step, on average; IRE's estimates, which start later, do not count."""
    return 1.0

  @abc.abstractmethod
  def wrap(self, base: Any, steps: int, key: int) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Base(Part, abc.ABC):
  """A base optimizer's direction, decay of the weights included, before the learning rate."""

  name: ClassVar[str]

  @abc.abstractmethod
  def direction(self, weight_decay: float) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Opt(Part):
  method: Annotated[Method, Inline]
  base: Annotated[Base, Inline]
  learning_rate: float
  weight_decay: float
  clip: float | None = None  # global norm, of what the method hands to the base
  warmup: float = 0.0  # share of the budget
  schedule: Literal["cosine", "tenths"] = "cosine"  # tenths: /10 at each quarter of the budget
  final: float = 0.0  # of the peak, where the cosine ends

  def __post_init__(self):
    for name in ("learning_rate", "weight_decay"):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(f"opt.{name} must be finite and at least 0; got {getattr(self, name)}")
    if self.clip is not None and not 0 < self.clip < math.inf:
      raise ValueError(f"opt.clip must be finite and above 0; got {self.clip}")
    if not 0 <= self.warmup < 1:
      raise ValueError(f"opt.warmup must be in [0, 1); got {self.warmup}")
    if not 0 <= self.final <= 1:
      raise ValueError(f"opt.final must be in [0, 1]; got {self.final}")


@dataclasses.dataclass(frozen=True)
class Training(Part):
  budget: int
  unit: Literal["gradients", "steps"] = "gradients"
  seed: int = 0
  label_smoothing: float = 0.0
  microbatches: int = 1  # a batch's gradient is accumulated over so many parts
  compute_dtype: Literal["float32", "bfloat16"] = "float32"  # params are float32
  fsdp: int = 1  # devices that share one copy of params and optimizer state
  log_every: int = 10  # steps
  evaluations: int = 10  # at equal shares of the budget
  checkpoint_every: int = 200  # steps
  start_from: str | None = None  # a finished run's directory, as seen from this run's

  def __post_init__(self):
    counts = "budget", "microbatches", "fsdp", "log_every", "evaluations", "checkpoint_every"
    for name in counts:
      if getattr(self, name) < 1:
        raise ValueError(f"training.{name} must be at least 1; got {getattr(self, name)}")
    if self.seed < 0:
      raise ValueError(f"training.seed must be at least 0; got {self.seed}")
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
    """About how many the budget buys."""
    a_step = self.opt.method.gradients if self.training.unit == "gradients" else 1
    return int(self.training.budget // a_step)

  def gradients(self) -> int:
    """About how many a run pays, without what IRE's estimates add."""
    if self.training.unit == "gradients":
      return self.training.budget
    return round(self.training.budget * self.opt.method.gradients)


def to_dict(part: Any) -> Any:
  """Plain values; a dataclass says its type."""
  if isinstance(part, Part):
    fields = {f.name: to_dict(getattr(part, f.name)) for f in dataclasses.fields(part)}
    return {"type": type(part).__name__} | fields
  return [to_dict(x) for x in part] if isinstance(part, tuple) else part


def from_dict(value: Any) -> Any:
  """The inverse of ``to_dict``."""
  if isinstance(value, dict):
    fields = {name: from_dict(x) for name, x in value.items() if name != "type"}
    return Part.types[value["type"]](**fields)
  return tuple(map(from_dict, value)) if isinstance(value, list) else value


def differences(one: Any, other: Any, path: str = "") -> list[str]:
  """ "opt.rho is 0.05 and 0.1", for every value in which two results of ``to_dict`` differ."""
  if isinstance(one, dict) and isinstance(other, dict):
    names = list(one) + [name for name in other if name not in one]
    return [
      line
      for name in names
      for line in differences(one.get(name), other.get(name), f"{path}.{name}".lstrip("."))
    ]
  return [] if one == other else [f"{path} is {one} and {other}"]
