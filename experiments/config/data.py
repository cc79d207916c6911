"""The data of a run: a data set, and how its examples are changed."""

import abc
import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal

from experiments.config.packages import missing_packages
from experiments.config.part import Inline, Part


@dataclasses.dataclass(frozen=True)
class DataSet(Part, abc.ABC):
  """A data set with its options; ``source(split)`` gives random access to its examples."""

  task: ClassVar[Literal["classification", "next_token"]]
  about: ClassVar[str]  # description, for `list` and reports
  packages: ClassVar[tuple[str, ...]] = ()  # packages that it needs

  @property
  @abc.abstractmethod
  def classes(self) -> int: ...

  @abc.abstractmethod
  def source(self, split: Literal["train", "test"]) -> Any: ...

  def missing(self) -> str | None:
    """What is missing before it can be read, for `list`; ``None`` where it is ready."""
    return missing_packages(self.packages)


@dataclasses.dataclass(frozen=True)
class Augment(Part):
  """Augmentation of training images, in this order; 0 turns a part off."""

  size: int = (
    0  # side in pixels that a random box is resized to; evaluation takes the central square
  )
  crop: int = 0  # pixels of padding, before a random crop to the image's own size
  flip: bool = False
  cutout: int = 0  # side in pixels of a grey square
  mixup: float = 0.0  # parameter of the Beta distribution of the mixing weight

  def __post_init__(self):
    for name in ("size", "crop", "cutout", "mixup"):
      value = getattr(self, name)
      if not 0 <= value < math.inf:
        raise ValueError(f"data.augment.{name} must be finite and at least 0; got {value}")


@dataclasses.dataclass(frozen=True)
class Lifelong(Part):
  """Class-incremental learning: the seed assigns classes to tasks, and a run trains on one task."""

  tasks: int = 1
  task: int = 0
  replay: int = 0  # examples of earlier tasks in memory, from which half of a batch is drawn

  def __post_init__(self):
    if not 0 <= self.task < self.tasks:
      raise ValueError(f"lifelong.task must be in [0, {self.tasks}); got {self.task}")
    if self.replay < 0:
      raise ValueError(f"lifelong.replay must be at least 0; got {self.replay}")


@dataclasses.dataclass(frozen=True)
class Data(Part):
  set: Annotated[DataSet, Inline]
  batch_size: int = 128  # over all devices
  wrong_labels: float = 0.0  # share of the training labels that are wrong
  held_out: float = 0.0  # share of the training set that is evaluated on, in place of the test set
  test_examples: int | None = None  # number of examples evaluated on; None is all
  augment: Augment = Augment()
  lifelong: Lifelong = Lifelong()

  @property
  def evaluated_on(self) -> Literal["validation", "test"]:
    """The name of the evaluated split, in every file."""
    return "validation" if self.held_out else "test"

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
