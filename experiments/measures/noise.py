"""Test accuracy under weight noise: of a saved run, or of all runs of a finished comparison."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.config import Refusal, files
from experiments.measures import weight_noise
from experiments.measures.compared_runs import measure_each
from experiments.measures.mean_losses import means_of
from experiments.measures.options import check_at_least, check_positive, check_seed
from experiments.training import batches, saved_runs
from experiments.training.losses import Losses
from experiments.training.saved_runs import Trained

NUMBERS = "noise.json"
KINDS = {"additive": weight_noise.additive, "multiplicative": weight_noise.multiplicative}


@dataclasses.dataclass(frozen=True)
class NoiseOptions:
  additive: tuple[float, ...] = (0.02, 0.04, 0.06, 0.08, 0.1)  # standard deviations
  multiplicative: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)  # relative to each weight
  draws: int = 20  # at each strength
  examples: int | None = None  # of the test set; all where none are named
  seed: int = 0  # of every random draw

  def __post_init__(self):
    check_seed(self.seed)
    check_at_least(self, {"draws": 1} | ({} if self.examples is None else {"examples": 1}))
    for name in ("additive", "multiplicative"):
      strengths = getattr(self, name)
      for strength in strengths:
        check_positive(name, strength)
      if not strengths or list(strengths) != sorted(set(strengths)):
        raise Refusal(f"{name} must be strengths that rise; got {strengths}")


def measure(directory: Path, options: NoiseOptions, console: Console) -> None:
  """Writes noise.json: strengths, and the curves of every run by method."""
  strengths = {kind: [0.0, *getattr(options, kind)] for kind in KINDS}
  measured = measure_each(directory, lambda run: curves(run, strengths, options), console)
  written = measured | {
    "options": dataclasses.asdict(options),
    "strengths": strengths,
    "versions": files.versions(),
  }
  files.write_csv(directory / "noise.csv", csv_rows(measured["runs"], strengths))
  files.write_json(directory / NUMBERS, written)


def csv_rows(
  found: dict[str, list[dict]], strengths: dict[str, list[float]]
) -> list[dict[str, Any]]:
  """A row a method, seed, kind of noise and strength."""
  return [
    {"method": method, "seed": run["seed"], "kind": kind, "strength": strength}
    | {name: values[i] for name, values in run[kind].items()}
    for method, runs in found.items()
    for run in runs
    for kind in KINDS
    for i, strength in enumerate(strengths[kind])
  ]


def curves(run: Trained, strengths: dict[str, list[float]], options: NoiseOptions) -> dict:
  """By kind of noise: mean, low and high over draws, at every strength.

  Runs of one seed are given the same draws, whatever their method; other seeds get others.
  """
  seed = run.config.training.seed
  key = jax.random.fold_in(jax.random.key(options.seed, impl="rbg"), seed)
  source = batches.evaluation_source(run.config)
  pairs = saved_runs.weighted_batches(run, source, options.examples)
  args = run.model_state, saved_runs.stacked(run, pairs)
  found: dict[str, Any] = {"seed": seed}
  for kind, apply_noise in KINDS.items():
    curve = weight_noise.accuracy_under_noise(
      accuracy_of(run.test_losses),
      run.params,
      apply_noise,
      strengths[kind],
      num_draws=options.draws,
      key=key,
      args=args,
    )
    found[kind] = {
      name.removesuffix("_S"): np.asarray(values).tolist()
      for name, values in curve._asdict().items()
    }
  return found


@functools.cache
def accuracy_of(losses: Losses) -> Callable[..., jax.Array]:
  """One function a model, so that a comparison's runs share what is compiled."""
  return lambda *arguments: means_of(losses)(*arguments)["accuracy"]
