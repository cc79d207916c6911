"""The commands that measure saved runs, and their options."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.config import Inline, Refusal


def _check_at_least(options: object, least: dict[str, int]) -> None:
  for name, low in least.items():
    if getattr(options, name) < low:
      raise Refusal(f"{name} must be at least {low}; got {getattr(options, name)}")


def _check_positive(name: str, value: float) -> None:
  if not (math.isfinite(value) and value > 0):
    raise Refusal(f"{name} must be > 0; got {value}")


@dataclasses.dataclass(frozen=True)
class SharpnessOptions:
  examples: int = 256  # the first of the training set
  rho: float = 0.05  # radius of the worst case, in units of the params,
  adaptive_rho: float = 0.5  # and of the one that scales with the weights
  ascent_steps: int = 1  # to the worst case: 1 is SAM's own perturbation
  sigma: float = 0.02  # of the weight noise of the average case
  num_samples: int = 16  # draws of the average case, and of the trace
  num_eigenvalues: int = 5
  num_matvecs: int = 40  # Lanczos steps of the eigenvalues, and of a probe of the density
  probes: int = 4  # of the density
  span: float = 1.0  # of the landscape, in lengths of the filters
  resolution: int = 21  # points along each of its two directions
  seed: int = 0  # of every random draw

  def __post_init__(self):
    counts = "examples", "ascent_steps", "num_samples", "num_eigenvalues", "probes"
    _check_at_least(self, dict.fromkeys(counts, 1) | {"num_matvecs": self.num_eigenvalues})
    _check_at_least(self, {"resolution": 3})
    _check_positive("span", self.span)
    for name in ("rho", "adaptive_rho", "sigma"):
      _check_positive(name, getattr(self, name))


@dataclasses.dataclass(frozen=True)
class Sharpness:
  """How flat the training loss is where a saved run has come to, by flatopt.sharpness."""

  run_dir: tyro.conf.Positional[Path]
  options: Annotated[SharpnessOptions, Inline] = SharpnessOptions()

  def run(self, console: Console) -> None:
    from experiments import report, sharpness

    sharpness.measure(self.run_dir, self.options, console)
    report.write(self.run_dir, console)


@dataclasses.dataclass(frozen=True)
class NoiseOptions:
  additive: tuple[float, ...] = (0.02, 0.04, 0.06, 0.08, 0.1)  # standard deviations
  multiplicative: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)  # relative to each weight
  draws: int = 20  # at each strength
  examples: int | None = None  # of the test set; all where none are named
  seed: int = 0  # of every random draw

  def __post_init__(self):
    _check_at_least(self, {"draws": 1} | ({} if self.examples is None else {"examples": 1}))
    for name in ("additive", "multiplicative"):
      strengths = getattr(self, name)
      for strength in strengths:
        _check_positive(name, strength)
      if not strengths or list(strengths) != sorted(set(strengths)):
        raise Refusal(f"{name} must be strengths that rise; got {strengths}")


@dataclasses.dataclass(frozen=True)
class Noise:
  """Test accuracy against the strength of weight noise: of a run, or of a finished comparison."""

  directory: tyro.conf.Positional[Path]
  options: Annotated[NoiseOptions, Inline] = NoiseOptions()

  def run(self, console: Console) -> None:
    from experiments import noisy_runs, report

    noisy_runs.measure(self.directory, self.options, console)
    report.write(self.directory, console)
