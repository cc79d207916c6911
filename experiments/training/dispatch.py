"""Steps on their way: several to a dispatch, the next ones sent before the last are looked at."""

from collections import deque
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.training import batches
from experiments.training.step import Program, Stop, TrainState
from experiments.training.streams import Stream


class Taken(NamedTuple):
  """What is known of a dispatch once it has ended."""

  steps: int  # that it took
  step: int  # of the run, at its end
  gradients: int
  learning_rate: float
  own: dict[str, float]  # the method's metrics at its end
  each: dict[str, list[float]]  # loss and accuracy of every step


class Dispatcher:
  """Sends batches to the devices in order; of those that no step took, the next dispatch has them.

  A dispatch may end early where gradients are limited, which the devices alone know. What was sent
  behind it then takes no step at all, as its limit is the same: so that nothing has to be undone.
  """

  def __init__(self, program: Program, stream: Stream, state: TrainState):
    self.program, self.stream, self.state = program, stream, state
    self.step, self.gradients = int(state.step), int(program.gradients(state))
    self.planned = self.step  # where what is on its way ends, if no limit of gradients is met
    self.under_way: deque[dict[str, Any]] = deque()
    self.placed: tuple[int, Any] | None = None  # batches on the devices, and the first one's step

  @property
  def full(self) -> bool:
    """One may wait behind one that runs; a step without a loop knows no limit, and is alone."""
    return len(self.under_way) == (1 if self.program.at_once == 1 else 2)

  def send(self, stop: Stop) -> None:
    """Dispatches as many steps as there are batches at once, up to the limits."""
    batch = self._batches_from(self.planned)
    limits = Stop(np.int32(stop.step), np.int32(stop.gradients))
    self.state, found = self.program.steps(self.state, batch, limits)
    self.planned = min(stop.step, self.planned + self.program.at_once)
    self.under_way.append(found)
    self.placed = self.planned, self._placed(self.planned)  # while the devices are busy

  def receive(self) -> Taken:
    """Waits for the first dispatch on its way."""
    found = jax.device_get(self.under_way.popleft())
    step = int(found["step"])
    steps, self.step, self.gradients = step - self.step, step, int(found["gradients"])
    self.stream.advance(steps)
    if not self.under_way:
      self.planned = step
    return Taken(
      steps,
      step,
      self.gradients,
      float(found["learning_rate"]),
      {name: x.item() for name, x in found["own"].items()},
      {name: x[:steps].tolist() for name, x in found["each"].items()},
    )

  def _batches_from(self, step: int) -> Any:
    if self.placed is not None and self.placed[0] == step:
      return self.placed[1]
    return self._placed(step)

  def _placed(self, step: int) -> Any:
    ahead = self.stream.ahead(step - self.step, self.program.at_once)
    return batches.place(ahead, self.program.batches_sharding)
