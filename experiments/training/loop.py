"""One run from its config to its summary, resumed where it was left."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments.config import Config, Refusal, files
from experiments.methods import eval_params
from experiments.training import batches, peak_memory, run_directory, saved_runs
from experiments.training.checkpoints import Checkpoints
from experiments.training.dispatch import Dispatcher, Taken
from experiments.training.display import progress_display
from experiments.training.evaluation import evaluate
from experiments.training.signals import Interrupted, noted_signals
from experiments.training.step import Program, Stop, TrainState, make_program
from experiments.training.streams import set_position

LONGEST = 2.0  # seconds of a dispatch, about: signals wait for its end
NO_LIMIT = 2**31 - 1


@contextlib.contextmanager
def said_where(directory: Path) -> Iterator[None]:
  """Errors of writing name the run, which a full disk's own message does not."""
  try:
    yield
  except OSError as error:
    raise Refusal(f"{directory} cannot be written: {error.strerror or error}") from error


def train(config: Config, directory: Path, console: Console) -> dict[str, Any]:
  """Trains until the budget is paid; returns, and leaves in summary.json, what came of it.

  A run that was interrupted goes on from its last checkpoint and ends with the same params and
  the same metrics, to the last bit, as one that was not.
  """
  finished = directory / "summary.json"
  with run_directory.claimed(directory, config):
    if finished.exists():
      return files.read_json(finished)
    peak_memory.forget_peak()
    with noted_signals() as noted, said_where(directory):
      run = Run(config, directory, console)
      run_directory.write_config(directory, config)
      size = run.position.metrics_size
      with run_directory.Metrics.opened(directory, size, run.step) as metrics:
        result = run.train(metrics, noted)
    if jax.process_index() == 0:
      files.write_json(finished, result)
    return result


@dataclasses.dataclass
class Position:
  """What the host knows of a run, and a checkpoint keeps beside the arrays."""

  data: dict[str, Any] | None = None
  metrics_size: int = 0  # bytes
  evaluated: int = 0  # shares of the budget
  window: dict[str, float] = dataclasses.field(default_factory=dict)  # sums since the last log
  latest: dict[str, float] = dataclasses.field(default_factory=dict)  # metrics
  seconds: float = 0.0  # of steps whose time was taken
  timed_steps: int = 0
  peak_memory_mb: float = 0.0


class Run:
  """The loop: what is due when, on the devices and in the run's files."""

  def __init__(self, config: Config, directory: Path, console: Console):
    self.config, self.console = config, console
    self.split = config.data.evaluated_on
    self.test_source = batches.evaluation_source(config)
    stream = batches.training_batches(config)
    self.program: Program = make_program(config, self.test_source[0])
    self.checkpoints = Checkpoints(directory / "checkpoints")
    restored = self.checkpoints.restore(self.program.shapes, Position)
    if restored is None:
      state, self.position = self.first_state(directory), Position()
    else:
      state, self.position = restored
      set_position(stream, self.position.data, directory)
    self.dispatcher = Dispatcher(self.program, stream, state)
    self.clock: float | None = None  # when timed steps began that ``position.seconds`` lacks
    self.sent = 0

  @property
  def step(self) -> int:
    return self.dispatcher.step

  @property
  def gradients(self) -> int:
    return self.dispatcher.gradients

  def first_state(self, directory: Path) -> TrainState:
    """Initial params, or those that another run is evaluated at; no optimizer state goes on."""
    if self.config.training.start_from is None:
      return self.program.init()
    other = directory / self.config.training.start_from
    _, _, state = saved_runs.ended(other)
    shapes = lambda state: jax.tree.map(lambda x: x.shape, (state.params, state.model_state))
    if shapes(state) != shapes(self.program.shapes):
      raise Refusal(f"{other} holds a run of another model")
    params = eval_params(state.opt_state, state.params)
    return self.program.start(params, state.model_state)

  def spent(self) -> int:
    """Of the budget."""
    return self.gradients if self.config.training.unit == "gradients" else self.step

  def evaluations_due(self) -> int:
    """How many have come due by now."""
    training = self.config.training
    return self.spent() * training.evaluations // training.budget

  def stop(self) -> Stop:
    """Where the next dispatch ends at most: at a log, a checkpoint, an evaluation or the end."""
    training, planned = self.config.training, self.dispatcher.planned
    next_multiple = lambda every: (planned // every + 1) * every
    step = min(next_multiple(training.log_every), next_multiple(training.checkpoint_every))
    due = -(-(self.position.evaluated + 1) * training.budget // training.evaluations)
    limit = min(due, training.budget)
    if self.clock is None:
      step = planned + 1  # the first step of a session compiles, and its time says nothing
    elif jax.process_count() == 1:  # each has a clock of its own
      step = min(step, planned + max(1, int(LONGEST * self.speed())))
    if training.unit == "steps":
      return Stop(min(step, limit), NO_LIMIT)
    return Stop(step, limit)

  def has_to_look(self) -> bool:
    """Whether what is on its way has to end before more is sent."""
    training, planned = self.config.training, self.dispatcher.planned
    if not self.dispatcher.under_way:
      return False
    if self.dispatcher.full or self.clock is None:
      return True
    spent = planned if training.unit == "steps" else self.spent()
    due = spent * training.evaluations // training.budget > self.position.evaluated
    return due or planned % training.checkpoint_every == 0

  def train(self, metrics: run_directory.Metrics, noted: list[int]) -> dict[str, Any]:
    self.metrics = metrics
    training = self.config.training
    share = lambda: self.spent() / training.budget
    with progress_display(self.console) as display:
      bar = display.add_task(self.config.name, total=1.0, completed=share(), note="compiling")
      while self.spent() < training.budget:
        while not self.has_to_look():
          self.dispatcher.send(self.stop())
        self.receive()
        interrupted = self.checkpoints.preempted(self.sent, noted)
        self.sent += 1
        if interrupted or not self.dispatcher.under_way:
          self.settle(interrupted)
        display.update(bar, completed=share(), note=self.note())
        if interrupted:
          raise Interrupted(noted)
    self.settle(save=True)
    self.checkpoints.close()
    latest = self.position.latest
    reached = {
      name: files.finite(latest[name]) for name in (f"{self.split}_loss", f"{self.split}_accuracy")
    }
    return {"steps": self.step, "gradients": self.gradients} | reached | self.timing()

  def receive(self) -> None:
    """What a dispatch found, while the next one runs."""
    taken = self.dispatcher.receive()
    position = self.position
    for values in zip(*taken.each.values(), strict=True):
      for name, x in zip((*taken.each, "steps"), (*values, 1), strict=True):
        position.window[name] = position.window.get(name, 0.0) + x
    if self.clock is None:
      self.clock = time.perf_counter()
    else:
      position.timed_steps += taken.steps
    if taken.steps and taken.step % self.config.training.log_every == 0:
      self.log(taken)

  def settle(self, save: bool) -> None:
    """Ends what is on its way, and does what is due where it ended."""
    while self.dispatcher.under_way:
      self.receive()
    self.stop_clock()
    if self.evaluations_due() > self.position.evaluated:
      self.evaluate()
    if save or self.step % self.config.training.checkpoint_every == 0:
      self.save()
    self.clock = time.perf_counter()

  def stop_clock(self) -> None:
    self.position.seconds, self.clock = self.seconds(), None

  def seconds(self) -> float:
    running = 0.0 if self.clock is None else time.perf_counter() - self.clock
    return self.position.seconds + running

  def log(self, taken: Taken) -> None:
    window = self.position.window
    means = {name: window[name] / window["steps"] for name in ("loss", "accuracy")}
    paid = {"gradients": taken.gradients, "learning_rate": taken.learning_rate}
    self.metrics.write("train", taken.step, paid | means | taken.own)
    self.metrics.write_timing(taken.step, self.timing())
    self.position.latest |= means
    self.position.window = {}

  def evaluate(self) -> None:
    size = self.config.data.batch_size
    means = evaluate(self.program, self.dispatcher.state, self.test_source, size)
    self.metrics.write(self.split, self.step, {"gradients": self.gradients} | means)
    self.position.latest |= {f"{self.split}_{name}": value for name, value in means.items()}
    self.position.evaluated = self.evaluations_due()

  def save(self) -> None:
    self.position.metrics_size = self.metrics.sync()
    self.position.data = self.dispatcher.stream.get_state()
    self.checkpoints.save(self.step, self.dispatcher.state, dataclasses.asdict(self.position))

  def timing(self) -> dict[str, float]:
    position = self.position
    position.peak_memory_mb = max(position.peak_memory_mb, peak_memory.peak_mb())
    return {
      "seconds": self.seconds(),
      "steps_per_second": self.speed(),
      "peak_memory_mb": position.peak_memory_mb,
    }

  def speed(self) -> float:
    steps, seconds = self.position.timed_steps, self.seconds()
    return steps / seconds if steps else 0.0

  def note(self) -> str:
    texts = {"loss": "loss {:.4f}", "accuracy": "{:.1f} %"}
    texts[f"{self.split}_accuracy"] = self.split + " {:.1f} %"
    latest = self.position.latest
    shown = [text.format(latest[name]) for name, text in texts.items() if name in latest]
    return ", ".join([*shown, f"{self.gradients} gradients", f"{self.speed():.1f} steps/s"])
