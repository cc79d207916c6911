"""Test loss and accuracy with quantised weights: of a saved run, or of a finished comparison's."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from experiments.config import Refusal, files
from experiments.measures.compared_runs import measure_each
from experiments.measures.mean_losses import means_of
from experiments.measures.options import check_at_least
from experiments.training import batches, saved_runs
from experiments.training.losses import Losses
from experiments.training.saved_runs import Trained

NUMBERS = "quantisation.json"
WHOLE = 32  # bits of a weight that is not quantised
MOST_BITS = 16  # beyond which the steps come near to those of float32 itself


@dataclasses.dataclass(frozen=True)
class QuantisationOptions:
  bits: tuple[int, ...] = (8, 4)  # a weight
  examples: int | None = None  # of the test set; all where none are named

  def __post_init__(self):
    check_bits(self.bits)
    check_at_least(self, {} if self.examples is None else {"examples": 1})


def check_bits(bits: Sequence[int]) -> None:
  falls = list(bits) == sorted(set(bits), reverse=True)
  if not bits or not falls or bits[0] > MOST_BITS or bits[-1] < 2:
    raise Refusal(f"bits must be numbers from {MOST_BITS} to 2 that fall; got {bits}")


@functools.partial(jax.jit, static_argnums=1)
def quantise(params: Any, bits: int) -> Any:
  """Every kernel and embedding rounded to the nearest of ``2**bits - 1`` values around zero.

      scale = max |w| / (2**(bits - 1) - 1)
      w -> scale * round(w / scale)

  The weights of one output channel share a scale: those at one index of a kernel's last axis, so
  that attention heads share theirs. Of an embedding, a row does: it is what one token looks up,
  and its output channel where the output's matrix is tied to it. Vectors, as biases and the scales
  of norms are, stay as they are: they are few, and are not quantised in practice.
  """
  levels = 2 ** (bits - 1) - 1

  def rounded(path, w):
    if w.ndim < 2:
      return w
    is_embedding = jax.tree_util.keystr(path[-1:], simple=True) == "embedding"
    together = tuple(range(1, w.ndim) if is_embedding else range(w.ndim - 1))
    exact = w.astype(jnp.float32)
    largest = jnp.max(jnp.abs(exact), axis=together, keepdims=True)
    scale = jnp.where(largest > 0, largest / levels, 1)  # a channel of zeros keeps them
    return (scale * jnp.round(exact / scale)).astype(w.dtype)

  return jax.tree_util.tree_map_with_path(rounded, params)


@functools.partial(jax.jit, static_argnums=0)
def _means(losses: Losses, params: Any, model_state: Any, pairs: Any) -> dict[str, jax.Array]:
  return means_of(losses)(params, model_state, pairs)


def at_each_precision(
  run: Trained, source: Any, bits: Sequence[int], examples: int | None = None
) -> dict[str, list[float | None]]:
  """Mean "loss" and "accuracy" over a source's examples: with whole weights, then with ``bits``."""
  pairs = saved_runs.stacked(run, saved_runs.weighted_batches(run, source, examples))
  versions = [run.params, *(quantise(run.params, each) for each in bits)]
  found = [_means(run.test_losses, params, run.model_state, pairs) for params in versions]
  return {name: [files.finite(each[name]) for each in found] for name in ("loss", "accuracy")}


def measure(directory: Path, options: QuantisationOptions, console: Console) -> None:
  """Writes quantisation.json: bits, and loss and accuracy with each, of every run by method."""

  def measure_run(run):
    source = batches.evaluation_source(run.config)
    found = at_each_precision(run, source, options.bits, options.examples)
    return {"seed": run.config.training.seed} | found

  measured = measure_each(directory, measure_run, console)
  bits = [WHOLE, *options.bits]
  rows = [
    {"method": method, "seed": run["seed"], "bits": each}
    | {name: run[name][i] for name in ("loss", "accuracy")}
    for method, runs in measured["runs"].items()
    for run in runs
    for i, each in enumerate(bits)
  ]
  written = measured | {
    "bits": bits,
    "options": dataclasses.asdict(options),
    "versions": files.versions(),
  }
  files.write_csv(directory / "quantisation.csv", rows)
  files.write_json(directory / NUMBERS, written)
