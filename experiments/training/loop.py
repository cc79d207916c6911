"""One run from its config to its summary, resumed where it was left."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import progress
from rich.console import Console

import flatopt
from experiments.config import Config, Refusal, files
from experiments.methods import eval_params, learning_rate
from experiments.training import batches, peak_memory, run_directory, saved_runs
from experiments.training.checkpoints import Checkpoints
from experiments.training.step import Program, TrainState, make_program


class Interrupted(Refusal):
  """SIGTERM or Ctrl-C; everything is saved."""

  def __init__(self, noted: list[int]):
    signum = noted[0] if noted else signal.SIGTERM
    self.code = 128 + signum
    super().__init__("interrupted and saved: the same command goes on from here")


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
  """SIGTERM and SIGINT only note themselves, for the loop to save and leave."""
  noted: list[int] = []
  # Among several processes SIGTERM is JAX's, which lets all of them leave at one step.
  kinds = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else ()
  before = [signal.signal(kind, lambda signum, _: noted.append(signum)) for kind in kinds]
  try:
    yield noted
  finally:
    for kind, handler in zip(kinds, before, strict=True):
      signal.signal(kind, handler)


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
  """The loop, its arrays on the devices and its position on the host."""

  def __init__(self, config: Config, directory: Path, console: Console):
    self.config, self.console = config, console
    self.split = config.data.evaluated_on
    self.test_source = batches.evaluation_source(config)
    self.batches = batches.training_batches(config)
    self.program: Program = make_program(config, self.test_source[0])
    self.checkpoints = Checkpoints(directory / "checkpoints")
    restored = self.checkpoints.restore(self.program.shapes, Position)
    if restored is None:
      self.state, self.position = self.first_state(directory), Position()
    else:
      self.state, self.position = restored
      self.batches.set_state(self.position.data)
    self.step, self.gradients = int(self.state.step), int(self.state.gradients())

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

  def paid(self) -> float:
    """The share of the budget."""
    training = self.config.training
    spent = self.gradients if training.unit == "gradients" else self.step
    return spent / training.budget

  def train(self, metrics: run_directory.Metrics, noted: list[int]) -> dict[str, Any]:
    self.metrics = metrics
    training = self.config.training
    resumed_at = self.step
    with progress_display(self.console) as display:
      bar = display.add_task(self.config.name, total=1.0, completed=self.paid(), note="compiling")
      while self.paid() < 1:
        self.advance(timed=self.step > resumed_at)
        if self.step % training.log_every == 0:
          self.log()
        if int(self.paid() * training.evaluations) > self.position.evaluated:
          self.evaluate()
        if self.step % training.checkpoint_every == 0:
          self.save()
        display.update(bar, completed=self.paid(), note=self.note())
        if self.checkpoints.preempted(self.step, noted):
          self.save()
          raise Interrupted(noted)
    self.save()
    self.checkpoints.close()
    latest = self.position.latest
    reached = {
      name: files.finite(latest[name]) for name in (f"{self.split}_loss", f"{self.split}_accuracy")
    }
    return {"steps": self.step, "gradients": self.gradients} | reached | self.timing()

  def advance(self, timed: bool) -> None:
    """One step; the first of a session compiles, and its time says nothing."""
    started = time.perf_counter()
    batch = batches.place(next(self.batches), self.program.batch_sharding)
    self.state, found = self.program.step(self.state, batch, np.float32(self.paid()))
    # Waits for the step: the state alone knows whether the budget is paid.
    found = {name: x.item() for name, x in found.items()}
    self.gradients = found.pop("gradients")
    self.step += 1
    position = self.position
    position.window = {
      name: position.window.get(name, 0.0) + x for name, x in (found | {"steps": 1}).items()
    }
    if timed:
      position.seconds += time.perf_counter() - started
      position.timed_steps += 1

  def log(self) -> None:
    window = self.position.window
    means = {name: window[name] / window["steps"] for name in ("loss", "accuracy")}
    rate = learning_rate(self.config.opt, jnp.float32(self.paid()))
    own = {name: x.item() for name, x in flatopt.metrics(self.state.opt_state).items()}
    values = {"gradients": self.gradients, "learning_rate": rate.item()} | means | own
    self.metrics.write("train", self.step, values)
    self.metrics.write_timing(self.step, self.timing())
    self.position.latest |= means
    self.position.window = {}

  def evaluate(self) -> None:
    size = self.config.data.batch_size
    means = evaluate(self.program, self.state, self.test_source, size)
    self.metrics.write(self.split, self.step, {"gradients": self.gradients} | means)
    self.position.latest |= {f"{self.split}_{name}": value for name, value in means.items()}
    self.position.evaluated = int(self.paid() * self.config.training.evaluations)

  def save(self) -> None:
    self.position.metrics_size = self.metrics.sync()
    self.position.data = self.batches.get_state()
    self.checkpoints.save(self.step, self.state, dataclasses.asdict(self.position))

  def timing(self) -> dict[str, float]:
    position = self.position
    position.peak_memory_mb = max(position.peak_memory_mb, peak_memory.peak_mb())
    return {
      "seconds": position.seconds,
      "steps_per_second": self.speed(),
      "peak_memory_mb": position.peak_memory_mb,
    }

  def speed(self) -> float:
    steps, seconds = self.position.timed_steps, self.position.seconds
    return steps / seconds if steps else 0.0

  def note(self) -> str:
    texts = {"loss": "loss {:.4f}", "accuracy": "{:.1f} %"}
    texts[f"{self.split}_accuracy"] = self.split + " {:.1f} %"
    latest = self.position.latest
    shown = [text.format(latest[name]) for name, text in texts.items() if name in latest]
    return ", ".join([*shown, f"{self.gradients} gradients", f"{self.speed():.1f} steps/s"])


def evaluate(program: Program, state: TrainState, source: Sequence, size: int) -> dict[str, float]:
  """Mean loss and accuracy over ``source``, in batches of ``size``."""
  sums = {"loss": 0.0, "accuracy": 0.0, "count": 0.0}
  for batch in batches.evaluation_batches(source, size):
    found = program.evaluate(state, *batches.place(batch, program.batch_sharding))
    sums = {name: sums[name] + found[name].item() for name in sums}
  return {name: sums[name] / sums["count"] for name in ("loss", "accuracy")}


def sentence(result: dict[str, Any]) -> str:
  split = "validation" if "validation_loss" in result else "test"
  loss, accuracy = result[f"{split}_loss"], result[f"{split}_accuracy"]
  reached = (
    "Diverged"
    if loss is None
    else f"{split.capitalize()} loss {loss:.4f}, {split} accuracy {accuracy:.2f} %"
  )
  return (
    f"{reached}; {result['steps']} steps, {result['gradients']} gradients,"
    f" {result['steps_per_second']:.1f} steps a second, {result['peak_memory_mb']:.0f} MB at most"
  )


def progress_display(console: Console) -> progress.Progress:
  return progress.Progress(
    progress.TextColumn("{task.description}"),
    progress.BarColumn(bar_width=30),
    progress.TaskProgressColumn(),
    progress.TextColumn("{task.fields[note]}"),
    progress.TimeRemainingColumn(),
    console=console,
  )
