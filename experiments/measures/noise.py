"""Test accuracy under weight noise: of a saved run, or of all runs of a finished comparison."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.config import Refusal, files
from experiments.measures import weight_noise
from experiments.measures.options import check_at_least, check_positive
from experiments.methods import method_name
from experiments.training import batches, run_directory, saved_runs
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
    check_at_least(self, {"draws": 1} | ({} if self.examples is None else {"examples": 1}))
    for name in ("additive", "multiplicative"):
      strengths = getattr(self, name)
      for strength in strengths:
        check_positive(name, strength)
      if not strengths or list(strengths) != sorted(set(strengths)):
        raise Refusal(f"{name} must be strengths that rise; got {strengths}")


def measure(directory: Path, options: NoiseOptions, console: Console) -> None:
  """Writes noise.json: strengths, and the curves of every run by method."""
  runs = runs_below(directory)
  strengths = {kind: [0.0, *getattr(options, kind)] for kind in KINDS}
  total, found, name = sum(map(len, runs.values())), {}, ""
  for method, paths in runs.items():
    found[method] = []
    for path in paths:
      done = sum(map(len, found.values()))
      console.print(f"run {done + 1} of {total}: {method} in {path}")
      run = saved_runs.restore(path)
      found[method].append(curves(run, strengths, options))
      name = run.config.name
  written = {
    "name": name,
    "reference": next(iter(runs)),
    "options": dataclasses.asdict(options),
    "strengths": strengths,
    "runs": found,
    "versions": files.versions(),
  }
  files.write_csv(directory / "noise.csv", csv_rows(found, strengths))
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


def runs_below(directory: Path) -> dict[str, list[Path]]:
  """Directories of runs by method, those of a comparison in the order of its seeds."""
  spec = directory / "compare.json"
  if not spec.exists():
    return {method_name(run_directory.read_config(directory).opt): [directory]}
  if not (directory / "results.json").exists():
    raise Refusal(f"{directory}: the comparison is not finished; the same `compare` goes on")
  compared = files.read_json(spec)
  where = lambda method, seed: directory / "runs" / method / f"seed-{seed}"
  found = {m: [where(m, seed) for seed in range(compared["seeds"])] for m in compared["methods"]}
  for path in (path for paths in found.values() for path in paths):
    run_directory.read_config(path)  # a run that is gone is missed before the first is measured
  return found


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

  def accuracy_fn(params, model_state, pairs):
    def on_batch(pair):
      sums = losses.evaluate(params, model_state, *pair)
      return {name: x.astype(jnp.float32) for name, x in sums.items()}

    sums = jax.tree.map(jnp.sum, jax.lax.map(on_batch, pairs))
    return sums["accuracy"] / sums["count"]

  return accuracy_fn
