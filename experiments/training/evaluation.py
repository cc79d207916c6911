"""Mean loss and accuracy of a run's params."""

from collections import deque
from collections.abc import Sequence

import jax

from experiments.training import batches
from experiments.training.step import Program, TrainState


def evaluate(program: Program, state: TrainState, source: Sequence, size: int) -> dict[str, float]:
  """Over ``source``, in batches of ``size``, each looked at when the next is on its way."""
  sums = {"loss": 0.0, "accuracy": 0.0, "count": 0.0}
  under_way = deque()

  def add_first():
    found = jax.device_get(under_way.popleft())
    for name in sums:
      sums[name] += found[name].item()

  for batch in batches.evaluation_batches(source, size):
    under_way.append(program.evaluate(state, *batches.place(batch, program.batch_sharding)))
    if len(under_way) > 1:
      add_first()
  add_first()
  return {name: sums[name] / sums["count"] for name in ("loss", "accuracy")}
