"""Five measures of sharpness at the final params of a comparison's runs.

Processes that share the comparison share these measurements too: each takes a run that no other
process measures.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config import Refusal, files
from experiments.config.locks import locked
from experiments.measures.correlations import spearman
from experiments.measures.options import check_at_least, check_positive
from experiments.measures.score import ACCURACY, Score
from experiments.training import batches, saved_runs
from experiments.training.losses import Losses
from flatopt import sharpness

NUMBERS = "flatness.json"  # in a run's directory, and of all runs in the comparison's
MEASURES = {  # by their keys
  "loss_increase": "worst case: loss increase along the gradient",
  "adaptive_increase": "adaptive worst case: relative to the weights",
  "average_increase": "average: loss increase under weight noise",
  "top_eigenvalue": "top eigenvalue of the Hessian",
  "trace": "trace of the Hessian",
}
SECOND_ORDER_BATCHES = 4  # of the training set, for the last three


@dataclasses.dataclass(frozen=True)
class FlatnessOptions:
  examples: int | None = None  # number of training examples, all by default
  rho: float = 0.2  # radius of SAM's perturbation
  adaptive_rho: float = 0.5  # radius of the perturbation that scales with the weights
  sigma: float = 0.02  # standard deviation of the weight noise
  span: float = 1.0  # of a landscape, in lengths of the filters
  resolution: int = 13  # points along each of its two directions
  pictured: tuple[str, ...] = ()  # methods whose landscape is drawn, of the first seed

  def __post_init__(self):
    check_at_least(self, {"resolution": 3} | ({} if self.examples is None else {"examples": 1}))
    for name in ("rho", "adaptive_rho", "sigma", "span"):
      check_positive(name, getattr(self, name))


def measure(directory: Path, options: FlatnessOptions, landscape: bool) -> None:
  """Writes flatness.json for one run, unless another process measures it."""
  with locked(directory, "flatness.lock", busy=f"another process measures {directory}"):
    if (directory / NUMBERS).exists():
      return
    run = saved_runs.restore(directory)
    source = batches.centred(run.config, batches.training_source(run.config))
    pairs = saved_runs.weighted_batches(run, source, options.examples)
    whole = [pair for pair in pairs if pair[1].all()]
    if not whole:
      raise Refusal(f"{directory}: there are fewer examples than a batch of {len(pairs[0][1])} has")
    args = run.params, run.model_state, saved_runs.stacked(run, whole)
    plain = dataclasses.replace(options, pictured=())
    found = jax.device_get(measures(run.train_losses, plain)(*args))
    written: dict[str, Any] = {name: files.finite(x) for name, x in found.items()}
    if landscape:
      written["landscape"] = np.asarray(landscapes(run.train_losses, plain)(*args)).tolist()
    files.write_json(directory / NUMBERS, written)


@functools.cache
def measures(losses: Losses, options: FlatnessOptions) -> Callable:
  """The compiled function of a model, which all methods and seeds share."""

  @jax.jit
  def measure_all(params, model_state, pairs):
    loss_fn = loss_on(losses, model_state)

    def on_batch(pair):
      loss_of = lambda w: loss_fn(w, pair)
      plain = sharpness.ascent(loss_of, params, rho=options.rho)
      adaptive = sharpness.ascent(loss_of, params, rho=options.adaptive_rho, eta=0.0)
      return loss_of(params), plain, adaptive

    loss, increase, adaptive = jax.tree.map(jnp.mean, jax.lax.map(on_batch, pairs))
    mean_loss = mean_over_first(loss_fn, pairs)
    grad_fn = jax.grad(mean_loss)
    values, _ = sharpness.top_eigenvalues(grad_fn, params, num_matvecs=12, key=0)
    noise = sharpness.average(mean_loss, params, sigma=options.sigma, num_samples=8, key=1)
    return {
      "train_loss": loss,
      "loss_increase": increase,
      "adaptive_increase": adaptive,
      "average_increase": noise.mean,
      "top_eigenvalue": values[0],
      "trace": sharpness.trace(grad_fn, params, num_samples=8, key=2).mean,
    }

  return measure_all


@functools.cache
def landscapes(losses: Losses, options: FlatnessOptions) -> Callable:
  """The loss along two filter-normalised directions, which are the same for every method."""

  @jax.jit
  def landscape(params, model_state, pairs):
    return sharpness.loss_landscape(
      mean_over_first(loss_on(losses, model_state), pairs),
      params,
      sharpness.filter_normalized_directions(params, key=3),
      span=options.span,
      resolution=options.resolution,
    )

  return landscape


def loss_on(losses: Losses, model_state: Any) -> Callable:
  def loss_fn(params, pair):
    sums = losses.evaluate(params, model_state, *pair)
    return sums["loss"] / sums["count"]

  return loss_fn


def mean_over_first(loss_fn: Callable, pairs: Any) -> Callable:
  return sharpness.over_batches(loss_fn, jax.tree.map(lambda x: x[:SECOND_ORDER_BATCHES], pairs))


def rank_correlations(
  rows: list[dict[str, Any]], score: Score = ACCURACY
) -> dict[str, float | None]:
  """Spearman's correlation over methods, of how good the score is with flatness by each measure."""
  sign = 1 if score.better == "higher" else -1
  scores = [row[score.key] for row in rows]
  if None in scores or len(rows) < 3:
    return dict.fromkeys(MEASURES)
  good = sign * np.array(scores)
  values = {key: [row[key] for row in rows] for key in MEASURES}
  return {
    key: None if None in found else files.finite(spearman(-np.array(found), good))
    for key, found in values.items()
  }
