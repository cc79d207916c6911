"""Mean loss and accuracy of a run's params, and every example's score."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.training import batches
from experiments.training.step import Program, TrainState


class Evaluation(NamedTuple):
  means: dict[str, float]  # "loss" and "accuracy"
  scores_N: np.ndarray  # accuracy of each example in percent, or each window's loss


def evaluate(program: Program, state: TrainState, source: Sequence, size: int) -> Evaluation:
  """Of ``source`` in batches of ``size``, each sent before the last one's sums are read."""
  sums = {"loss": 0.0, "accuracy": 0.0, "count": 0.0}
  scores, in_flight = [], deque()

  def add_oldest():
    batch_sums, scores_B = jax.device_get(in_flight.popleft())
    for name in sums:
      sums[name] += batch_sums[name].item()
    scores.append(scores_B)

  for batch in batches.evaluation_batches(source, size):
    in_flight.append(program.evaluate(state, *batches.place(batch, program.batch_sharding)))
    if len(in_flight) > 1:
      add_oldest()
  add_oldest()
  means = {name: sums[name] / sums["count"] for name in ("loss", "accuracy")}
  return Evaluation(means, np.concatenate(scores)[: len(source)])  # without what pads the last
