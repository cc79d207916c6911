"""Tuning: a product grid of settings, the same range for all methods, and the best one's neighbours.

Every axis is logarithmic: learning rates, weight decays, and the method's own ``search`` fields.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from experiments.config import Config, Part

HELD_OUT = 0.2  # share of the training set on which trials are compared
FIRST_SEED = 1000  # of trials, which no comparison uses
BEYOND = 3  # steps that the search may take beyond either end of an axis

Setting = tuple[int, ...]  # places on the axes; a negative one is before an axis's first value


@dataclasses.dataclass(frozen=True)
class Grid(Part):
  """The values that are tried with every method; without any, the config's settings are taken."""

  rates: tuple[float, ...] = ()  # learning rates
  decays: tuple[float, ...] = ()  # weight decays
  scales: tuple[float, ...] = ()  # factors on a method's own rho or kappa
  trial_seeds: int = 2  # runs of every setting, on which it is judged
  finalists: int = 1  # the best settings when the search has ended; several are judged once more
  final_seeds: int = 6  # runs of a finalist, those of the search among them

  def __post_init__(self):
    for name in ("rates", "decays", "scales"):
      values = getattr(self, name)
      if list(values) != sorted(set(values)) or not all(0 < x < math.inf for x in values):
        raise ValueError(f"grid.{name} must be above 0 and rise; got {values}")
    for name in ("trial_seeds", "finalists"):
      if getattr(self, name) < 1:
        raise ValueError(f"grid.{name} must be at least 1; got {getattr(self, name)}")
    if self.finalists > 1 and self.final_seeds <= self.trial_seeds:
      raise ValueError(
        f"grid.final_seeds must be above grid.trial_seeds, {self.trial_seeds}; got {self.final_seeds}"
      )

  @property
  def tunes(self) -> bool:
    return bool(self.rates or self.decays or self.scales)

  @property
  def seeds_of_finalists(self) -> int:
    return self.final_seeds if self.finalists > 1 else self.trial_seeds


UNTUNED = Grid()


class Axis(NamedTuple):
  """What varies along one axis; beyond its ends it goes on by the ratio of its last two values."""

  name: str
  values: tuple[float, ...]

  def value(self, place: int) -> float:
    values, last = self.values, len(self.values) - 1
    if place < 0:
      return values[0] * (values[0] / values[1]) ** -place
    return (
      values[place] if place <= last else values[-1] * (values[-1] / values[-2]) ** (place - last)
    )

  def neighbours(self, place: int) -> list[int]:
    if len(self.values) == 1:
      return []
    found = place - 1, place + 1
    return [x for x in found if -BEYOND <= x < len(self.values) + BEYOND]


class Tuning(NamedTuple):
  """The search over one method's settings."""

  config: Config
  axes: tuple[Axis, ...]
  grid: tuple[Setting, ...]

  def configured(self, setting: Setting) -> Config:
    opt, values = self.config.opt, self.values(setting)
    own = {name: values.pop(name) for name in opt.method.search}
    method = dataclasses.replace(opt.method, **own)
    return dataclasses.replace(self.config, opt=dataclasses.replace(opt, method=method, **values))

  def values(self, setting: Setting) -> dict[str, float]:
    return {axis.name: axis.value(x) for axis, x in zip(self.axes, setting, strict=True)}

  def untried(self, setting: Setting, tried: Mapping[Setting, float]) -> list[Setting]:
    """Settings one step from ``setting`` along one axis."""
    moved = [
      (*setting[:i], place, *setting[i + 1 :])
      for i, axis in enumerate(self.axes)
      for place in axis.neighbours(setting[i])
    ]
    return [one for one in moved if one not in tried]

  def next(self, scores: Mapping[Setting, float]) -> list[Setting]:
    """What to try after ``scores``, where higher is better: the grid, then the best's neighbours.

    Nothing once no neighbour of the best is better, which moves past an edge where the best is.
    """
    if left := [setting for setting in self.grid if setting not in scores]:
      return left
    return self.untried(ranked(scores)[0], scores)

  def at_edges(self, chosen: Setting, tried: Iterable[Setting]) -> list[str]:
    """In words, where the chosen setting stands at an edge of what was tried."""
    said = []
    for axis, place, places in zip(self.axes, chosen, zip(*tried, strict=True), strict=True):
      if min(places) < max(places) and place in (min(places), max(places)):
        which = "smallest" if place == min(places) else "largest"
        said.append(f"{axis.name} {axis.value(place):.3g} is the {which} tried")
    return said


def ranked(scores: Mapping[Setting, float]) -> list[Setting]:
  """The settings, the one of the highest score first; equal ones in the order they were tried in."""
  return sorted(scores, key=lambda setting: -scores[setting])


def tuning_of(config: Config, grid: Grid) -> Tuning:
  """A method's axes and its grid.

  A method without ``search`` fields has every rate with every decay. One with such fields starts from
  every second rate and decay and every value of its first field, and finds the others as
  neighbours.
  """
  opt, own = config.opt, config.opt.method.search
  axes = [
    Axis("learning_rate", grid.rates or (opt.learning_rate,)),
    Axis("weight_decay", grid.decays or (opt.weight_decay,)),
  ]
  for name in own:
    value = getattr(opt.method, name)
    axes.append(Axis(name, tuple(value * scale for scale in grid.scales) or (value,)))
  sizes = [len(axis.values) for axis in axes]
  places: list[Sequence[int]] = [range(size) for size in sizes]
  if own:
    rates, decays = (range(1, size, 2) for size in sizes[:2])
    places = [
      rates if sizes[0] > 3 else places[0],
      decays if sizes[1] > 2 else places[1],
      places[2],
      *([size // 2] for size in sizes[3:]),
    ]
  return Tuning(config, tuple(axes), tuple(itertools.product(*places)))
