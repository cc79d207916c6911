"""One run from its config to its summary, resumed where it was left."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments.config import Config, Refusal, files
from experiments.methods import eval_params
from experiments.training import (
  batches,
  metric_files,
  peak_memory,
  run_directory,
  saved_runs,
  wandb_run,
)
from experiments.training.checkpoints import Checkpoints
from experiments.training.dispatch import Dispatcher, DispatchResult
from experiments.training.display import progress_display
from experiments.training.evaluation import evaluate
from experiments.training.signals import Interrupted, deferred_signals
from experiments.training.step import Program, Stop, TrainState, make_program
from experiments.training.streams import set_position

MAX_DISPATCH_SECONDS = 2.0  # about: signals wait for its end
NO_LIMIT = 2**31 - 1


def train(config: Config, directory: Path, console: Console) -> dict[str, Any]:
  """Trains until the budget is paid; returns the result, and writes it to summary.json.

  A run that was interrupted continues from its last checkpoint, and ends with the same params and
  metrics, to the last bit, as one that was not.
  """
  if result := run_directory.finished(directory, config):
    return result
  with run_directory.claimed(directory, config):
    if result := run_directory.finished(directory, config):  # by another process
      return result
    peak_memory.forget_peak()
    with deferred_signals() as signals, files.writing(directory):
      run = Run(config, directory, console)
      run_directory.write_config(directory, config)
      at = run.position.metrics_size, run.position.metrics_digest, run.step
      with metric_files.Metrics.opened(directory, config, *at) as metrics:
        result = run.train(metrics, signals)
      if jax.process_index() == 0:
        run_directory.write_summary(directory, result)
    return result


@dataclasses.dataclass
class Position:
  """The values that a checkpoint keeps of a run besides its arrays."""

  data: dict[str, Any] | None = None  # the stream's position
  metrics_size: int = 0  # bytes of metrics.jsonl
  metrics_digest: str = ""
  evaluated: int = 0  # number of evaluations
  window: dict[str, float] = dataclasses.field(default_factory=dict)  # sums since the last log
  latest: dict[str, float] = dataclasses.field(default_factory=dict)  # the last logged metrics
  seconds: float = 0.0  # of the timed steps
  timed_steps: int = 0
  peak_memory_mb: float = 0.0


class Run:
  """The loop: sends steps to the devices, and logs, evaluates and saves when it is due."""

  def __init__(self, config: Config, directory: Path, console: Console):
    wandb_run.check(config)
    self.config, self.directory, self.console = config, directory, console
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
    self.clock: float | None = None  # start of the timed steps that ``position.seconds`` lacks
    self.rounds = 0

  @property
  def step(self) -> int:
    return self.dispatcher.step

  @property
  def gradients(self) -> int:
    return self.dispatcher.gradients

  def first_state(self, directory: Path) -> TrainState:
    """Initial params, or those of a finished run; the optimizer state is new in both cases."""
    if self.config.training.start_from is None:
      return self.program.init(self.program.inputs)
    other = directory / self.config.training.start_from
    _, _, state = saved_runs.load_finished(other)
    shapes = lambda state: jax.tree.map(lambda x: x.shape, (state.params, state.model_state))
    if shapes(state) != shapes(self.program.shapes):
      raise Refusal(f"{other} holds a run of another model")
    params = eval_params(state.opt_state, state.params)
    return self.program.start(params, state.model_state, self.program.inputs)

  def spent(self) -> int:
    """What is paid of the budget, in its unit."""
    return self.gradients if self.config.training.unit == "gradients" else self.step

  def evaluations_due(self) -> int:
    """How many evaluations are due by now."""
    training = self.config.training
    return self.spent() * training.evaluations // training.budget

  def stop(self) -> Stop:
    """Limits of the next dispatch: the next log, checkpoint, evaluation or the end."""
    training, planned = self.config.training, self.dispatcher.planned
    next_multiple = lambda every: (planned // every + 1) * every
    step = min(next_multiple(training.log_every), next_multiple(training.checkpoint_every))
    due = -(-(self.position.evaluated + 1) * training.budget // training.evaluations)
    limit = min(due, training.budget)
    if self.clock is None:
      step = planned + 1  # the first step of a process compiles, and is not timed
    elif jax.process_count() == 1:  # processes must agree, but their clocks differ
      step = min(step, planned + max(1, int(MAX_DISPATCH_SECONDS * self.speed())))
    if training.unit == "steps":
      return Stop(min(step, limit), NO_LIMIT)
    return Stop(step, limit)

  def must_receive(self) -> bool:
    """Whether a dispatch in flight has to end before the next one is sent."""
    training, planned = self.config.training, self.dispatcher.planned
    if not self.dispatcher.in_flight:
      return False
    if self.dispatcher.full or self.clock is None:
      return True
    spent = planned if training.unit == "steps" else self.spent()
    due = spent * training.evaluations // training.budget > self.position.evaluated
    return due or planned % training.checkpoint_every == 0

  def train(self, metrics: metric_files.Metrics, signals: list[int]) -> dict[str, Any]:
    self.metrics = metrics
    training = self.config.training
    share = lambda: self.spent() / training.budget
    with progress_display(self.console) as display:
      bar = display.add_task(self.config.name, total=1.0, completed=share(), note="compiling")
      while self.spent() < training.budget:
        while not self.must_receive():
          self.dispatcher.send(self.stop())
        self.receive()
        interrupted = self.checkpoints.preempted(self.rounds, signals)
        self.rounds += 1
        if interrupted or not self.dispatcher.in_flight:
          self.synchronize(interrupted)
        display.update(bar, completed=share(), note=self.note())
        if interrupted:
          raise Interrupted(signals)
    self.synchronize(save=True)
    self.checkpoints.close()
    latest = self.position.latest
    reached = {
      name: files.finite(latest[name]) for name in (f"{self.split}_loss", f"{self.split}_accuracy")
    }
    return {"steps": self.step, "gradients": self.gradients} | reached | self.timing()

  def receive(self) -> None:
    """Adds a dispatch's metrics to the window, while the next one runs."""
    result = self.dispatcher.receive()
    position = self.position
    for values in zip(*result.each.values(), strict=True):
      for name, x in zip((*result.each, "steps"), (*values, 1), strict=True):
        position.window[name] = position.window.get(name, 0.0) + x
    if self.clock is None:
      self.read_peak_memory()
      self.clock = time.perf_counter()
    else:
      position.timed_steps += result.steps
    if result.steps and result.step % self.config.training.log_every == 0:
      self.log(result)

  def synchronize(self, save: bool) -> None:
    """Waits for all dispatches, then evaluates and saves what is due."""
    while self.dispatcher.in_flight:
      self.receive()
    self.stop_clock()
    if self.evaluations_due() > self.position.evaluated:
      self.evaluate()
    self.read_peak_memory()
    if save or self.step % self.config.training.checkpoint_every == 0:
      self.save()
    self.clock = time.perf_counter()

  def read_peak_memory(self) -> None:
    """Not at every log, because the system takes as long for it as for writing the log."""
    self.position.peak_memory_mb = max(self.position.peak_memory_mb, peak_memory.peak_mb())

  def stop_clock(self) -> None:
    self.position.seconds, self.clock = self.seconds(), None

  def seconds(self) -> float:
    running = 0.0 if self.clock is None else time.perf_counter() - self.clock
    return self.position.seconds + running

  def log(self, result: DispatchResult) -> None:
    window = self.position.window
    means = {name: window[name] / window["steps"] for name in ("loss", "accuracy")}
    paid = {"gradients": result.gradients, "learning_rate": result.learning_rate}
    self.metrics.write("train", result.step, paid | means | result.own)
    self.metrics.write_timing(result.step, self.timing())
    self.position.latest |= means
    self.position.window = {}

  def evaluate(self) -> None:
    size = self.config.data.batch_size
    means, scores_N = evaluate(self.program, self.dispatcher.state, self.test_source, size)
    self.metrics.write(self.split, self.step, {"gradients": self.gradients} | means)
    self.position.latest |= {f"{self.split}_{name}": value for name, value in means.items()}
    self.position.evaluated = self.evaluations_due()
    if self.spent() >= self.config.training.budget:
      run_directory.write_scores(self.directory, self.split, scores_N)

  def save(self) -> None:
    self.position.metrics_size, self.position.metrics_digest = self.metrics.sync()
    self.position.data = self.dispatcher.stream.get_state()
    self.checkpoints.save(self.step, self.dispatcher.state, dataclasses.asdict(self.position))

  def timing(self) -> dict[str, float]:
    return {
      "seconds": self.seconds(),
      "steps_per_second": self.speed(),
      "peak_memory_mb": self.position.peak_memory_mb,
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
