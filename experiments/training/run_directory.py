"""A run's files: config.json, metrics.jsonl, timing.jsonl, summary.json, tensorboard/, and every
test example's score at the end in test_scores.npy.

metrics.jsonl is the same to the last bit when a run is repeated; timing.jsonl holds what depends on
the machine's speed.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from experiments import config as configuration
from experiments.config import Config, Refusal, files
from experiments.training import wandb_run


class Busy(Refusal):
  """Another process is training the run."""


def read_config(directory: Path) -> Config:
  path = directory / "config.json"
  if not path.exists():
    raise Refusal(f"{directory} holds no run: there is no config.json")
  try:
    return configuration.from_dict(files.read_json(path)["config"])
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise Refusal(f"{path} is not a config of this version: {error}") from error


@contextlib.contextmanager
def locked(directory: Path, name: str, *, busy: str | None = None) -> Iterator[None]:
  """Holds the lock ``name`` in ``directory`` among processes.

  Where another process has it, raises ``Busy`` with the text ``busy``, or waits without one.
  """
  directory.mkdir(parents=True, exist_ok=True)
  with open(directory / name, "w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError:
      raise Busy(busy) from None
    yield


@contextlib.contextmanager
def claimed(directory: Path, config: Config) -> Iterator[None]:
  """Locks ``directory``, so that one process at a time writes this run."""
  if jax.process_index():  # the first process holds the lock for all
    refuse_another(directory, config)
    yield
    return
  with locked(directory, "lock", busy=f"another process is training in {directory}"):
    refuse_another(directory, config)
    yield


def refuse_another(directory: Path, config: Config) -> None:
  if not (directory / "config.json").exists():
    return
  existing, resolved = map(configuration.to_dict, (read_config(directory), config))
  if lines := configuration.differences(existing, resolved):
    raise Refusal(f"{directory} holds a run of another config: {', '.join(lines)}")


def write_config(directory: Path, config: Config) -> None:
  """Writes config.json, after every check of the config."""
  path = directory / "config.json"
  if jax.process_index() == 0 and not path.exists():
    files.write_json(path, {"config": configuration.to_dict(config), "versions": files.versions()})


class Metrics:
  """Writes metrics.jsonl and timing.jsonl, and both to TensorBoard and Weights & Biases."""

  def __init__(
    self, lines: BinaryIO, timing: BinaryIO, events: EventsWriter | None, log: wandb_run.Log
  ):
    self.lines, self.timing, self.events, self.log = lines, timing, events, log

  @classmethod
  @contextlib.contextmanager
  def opened(cls, directory: Path, config: Config, size: int, step: int) -> Iterator[Self]:
    """Continues metrics.jsonl after ``size`` bytes, its size at the checkpoint of ``step``."""
    if jax.process_index():  # only the first process writes
      with open(os.devnull, "ab") as nowhere:
        yield cls(nowhere, nowhere, None, lambda split, step, values: None)
      return
    (directory / "tensorboard").mkdir(exist_ok=True)
    path = directory / "metrics.jsonl"
    with open(path, "ab") as lines, open(directory / "timing.jsonl", "ab") as timing:
      if os.fstat(lines.fileno()).st_size < size:
        raise Refusal(
          f"{path} is shorter than at the last checkpoint: delete {directory} to start again"
        )
      lines.truncate(size)
      # Not SummaryWriter, whose thread hides the error of a full disk.
      events = EventsWriter(str(directory / "tensorboard" / "events"), f".{step}")
      with contextlib.closing(events), wandb_run.opened(config, directory) as log:
        events.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
        yield cls(lines, timing, events, log)

  def write(self, split: str, step: int, values: dict[str, float]) -> None:
    self._append(self.lines, {"split": split, "step": step} | values)
    self._add_events(split, step, values)
    self.log(split, step, values)

  def write_timing(self, step: int, values: dict[str, float]) -> None:
    self._append(self.timing, {"step": step} | values)
    self._add_events("timing", step, values)
    self.log("timing", step, values)

  def _append(self, file, line):
    # Python writes NaN and Infinity: the metrics of a diverged run are kept too.
    file.write((json.dumps(line) + "\n").encode())
    file.flush()

  def _add_events(self, split, step, values):
    if self.events:
      scalars = [Summary.Value(tag=f"{split}/{name}", simple_value=x) for name, x in values.items()]
      summary = Summary(value=scalars)
      self.events.write_event(Event(wall_time=time.time(), step=step, summary=summary))

  def sync(self) -> int:
    """Flushes all files to the disk; returns the size of metrics.jsonl."""
    if self.events:
      self.events.flush()
      for file in (self.lines, self.timing):
        os.fsync(file.fileno())
    return os.fstat(self.lines.fileno()).st_size


def write_scores(directory: Path, split: str, scores_N: np.ndarray) -> None:
  """Keeps the scores of the last evaluation's examples."""
  if jax.process_index():
    return
  with files.written_whole(_scores(directory, split)) as draft, open(draft, "wb") as file:
    np.save(file, scores_N.astype(np.float32), allow_pickle=False)


def read_scores(directory: Path, split: str = "test") -> np.ndarray | None:
  """Every example's score at the end of a run; None where an older version has not kept them."""
  path = _scores(directory, split)
  return np.load(path, allow_pickle=False) if path.exists() else None


def _scores(directory: Path, split: str) -> Path:
  return directory / f"{split}_scores.npy"


def read_metrics(directory: Path, split: str) -> list[dict[str, float]]:
  return [row for row in read_lines(directory) if row["split"] == split]


def read_lines(directory: Path) -> list[dict[str, Any]]:
  path = directory / "metrics.jsonl"
  # A killed run may have left half a line after the last newline.
  whole_lines = path.read_text().split("\n")[:-1] if path.exists() else []
  try:
    return [json.loads(line) for line in whole_lines]
  except ValueError as error:
    raise Refusal(f"{path} is damaged: delete {directory} to run it again ({error})") from error
