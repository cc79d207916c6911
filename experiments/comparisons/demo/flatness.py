"""How flat the minima are that the methods ended in, by the measures of flatopt.sharpness."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.comparisons.demo import data, training
from experiments.comparisons.demo.config import Config
from experiments.config import files
from flatopt import sharpness

MEASURES = {  # of every run, by their key in results.json
  "loss_increase": "worst case: loss increase along the gradient",
  "adaptive_increase": "adaptive worst case: relative to the weights",
  "average_increase": "average: loss increase under weight noise",
  "top_eigenvalue": "top eigenvalue of the Hessian",
  "trace": "trace of the Hessian",
}
PICTURED = ("sgd", "sam", "ire_drift")  # whose landscapes are drawn


class Flatness(NamedTuple):
  """Compiled functions of params and training set, which all methods share."""

  measure: Callable
  landscape: Callable


def compile_flatness(config: Config, params, train: data.Digits) -> Flatness:
  _, _, loss_fn = training.model_and_loss(config)
  compiled = lambda fn: (
    jax.jit(functools.partial(fn, config, loss_fn)).lower(params, train).compile()
  )
  return Flatness(compiled(measure), compiled(landscape))


def measure(config: Config, loss_fn, params, train: data.Digits) -> dict[str, jax.Array]:
  """The training loss, and its sharpness: on all batches to first order, on four to second."""
  batches = _batches(config, train)

  def on_batch(batch):
    loss_of = lambda p: loss_fn(p, *batch)
    plain = sharpness.ascent(loss_of, params, rho=config.sharpness_rho)
    adaptive = sharpness.ascent(loss_of, params, rho=config.adaptive_rho, eta=0.0)
    return loss_of(params), plain, adaptive

  loss, increase, adaptive = jax.tree.map(jnp.mean, jax.lax.map(on_batch, batches))
  mean_loss = _mean_loss(loss_fn, batches)
  grad_fn = jax.grad(mean_loss)
  values, _ = sharpness.top_eigenvalues(grad_fn, params, num_matvecs=12, key=0)
  noise = sharpness.average(mean_loss, params, sigma=config.sharpness_sigma, num_samples=8, key=1)
  return {
    "train_loss": loss,
    "loss_increase": increase,
    "adaptive_increase": adaptive,
    "average_increase": noise.mean,
    "top_eigenvalue": values[0],
    "trace": sharpness.trace(grad_fn, params, num_samples=8, key=2).mean,
  }


def landscape(config: Config, loss_fn, params, train: data.Digits) -> jax.Array:
  """The loss along two filter-normalised directions, the same draws for every method."""
  directions = sharpness.filter_normalized_directions(params, key=3)
  return sharpness.loss_landscape(
    _mean_loss(loss_fn, _batches(config, train)),
    params,
    directions,
    span=config.landscape_span,
    resolution=config.landscape_points,
  )


def rank_correlations(rows: list[dict[str, Any]]) -> dict[str, float | None]:
  """Spearman's, over methods, of test accuracy with the flatness that each measure tells."""
  ranks = lambda values: np.argsort(np.argsort(values)).astype(float)
  accuracy = ranks([row["test_accuracy"] for row in rows])
  correlations = {}
  for key in MEASURES:
    values = [row[key] for row in rows]
    known = len(rows) > 2 and None not in values
    correlations[key] = files.finite(np.corrcoef(accuracy, -ranks(values))[0, 1]) if known else None
  return correlations


def _batches(config: Config, train: data.Digits) -> data.Digits:
  size = config.batch_size
  whole = len(train.labels) // size * size
  return jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), train)


def _mean_loss(loss_fn, batches: data.Digits):
  four = jax.tree.map(lambda x: x[:4], batches)
  return sharpness.over_batches(lambda p, batch: loss_fn(p, *batch), four)
