"""Dispatches of several steps, each sent to the devices before the previous one has ended."""

from collections import deque
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.training.device_data import batches_on_devices
from experiments.training.step import Program, Stop, TrainState
from experiments.training.streams import Stream


class DispatchResult(NamedTuple):
  """What a dispatch returns to the host when it has ended."""

  steps: int  # number of steps that it took
  step: int  # the run's step count at its end
  gradients: int  # paid by the run at its end
  learning_rate: float
  own: dict[str, float]  # the method's metrics at its end
  each: dict[str, list[float]]  # loss and accuracy of every step


class Dispatcher:
  """Sends batches to the devices in order, and reads the results of earlier dispatches.

  A dispatch ends early when it reaches the limit of gradients, and only the devices know when. The
  dispatch behind it has the same limit and then takes no step, so that nothing has to be undone;
  the batches that neither used go to the next dispatch.
  """

  def __init__(self, program: Program, stream: Stream, state: TrainState):
    self.program, self.stream, self.state = program, stream, state
    self.step, self.gradients = int(state.step), int(program.gradients(state))
    self.planned = self.step  # where the dispatches in flight end, unless gradients end them
    self.in_flight: deque[dict[str, Any]] = deque()
    self.placed: tuple[int, Any] | None = None  # batches on the devices, and the first one's step
    self.batches_ahead = batches_on_devices(stream, program.batches_sharding)

  @property
  def full(self) -> bool:
    """One dispatch may wait behind the running one, unless steps have no loop and no limit."""
    return len(self.in_flight) == (1 if self.program.batches_per_dispatch == 1 else 2)

  def send(self, stop: Stop) -> None:
    """Dispatches one step a batch, up to the limits."""
    batch = self._batches_from(self.planned)
    limits = Stop(np.int32(stop.step), np.int32(stop.gradients))
    self.state, outputs = self.program.steps(self.state, batch, limits, self.program.inputs)
    self.planned = min(stop.step, self.planned + self.program.batches_per_dispatch)
    self.in_flight.append(outputs)
    self.placed = self.planned, self._placed(self.planned)  # copied while the devices are busy

  def receive(self) -> DispatchResult:
    """Waits for the oldest dispatch in flight."""
    outputs = jax.tree.map(np.asarray, self.in_flight.popleft())  # twice as fast as device_get
    step = int(outputs["step"])
    steps, self.step, self.gradients = step - self.step, step, int(outputs["gradients"])
    self.stream.advance(steps)
    if not self.in_flight:
      self.planned = step
    return DispatchResult(
      steps,
      step,
      self.gradients,
      float(outputs["learning_rate"]),
      {name: x.item() for name, x in outputs["own"].items()},
      {name: x[:steps].tolist() for name, x in outputs["each"].items()},
    )

  def _batches_from(self, step: int) -> Any:
    if self.placed is not None and self.placed[0] == step:
      return self.placed[1]
    return self._placed(step)

  def _placed(self, step: int) -> Any:
    return self.batches_ahead(step - self.step, self.program.batches_per_dispatch)
