"""Mean loss and accuracy of a run's params."""

from collections import deque
from collections.abc import Sequence

import jax

from experiments.training import batches
from experiments.training.step import Program, TrainState


def evaluate(program: Program, state: TrainState, source: Sequence, size: int) -> dict[str, float]:
  """Means over ``source`` in batches of ``size``, each sent before the last one's sums are read."""
  sums = {"loss": 0.0, "accuracy": 0.0, "count": 0.0}
  in_flight = deque()

  def add_oldest():
    batch_sums = jax.device_get(in_flight.popleft())
    for name in sums:
      sums[name] += batch_sums[name].item()

  for batch in batches.evaluation_batches(source, size):
    in_flight.append(program.evaluate(state, *batches.place(batch, program.batch_sharding)))
    if len(in_flight) > 1:
      add_oldest()
  add_oldest()
  return {name: sums[name] / sums["count"] for name in ("loss", "accuracy")}
