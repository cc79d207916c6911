"""A run's metrics.jsonl, timing.jsonl and tensorboard/.

metrics.jsonl is the same to the last bit when a run is repeated, and checkpoints have a digest of it so
far; timing.jsonl holds what depends on the machine's speed.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from experiments.config import Config, Refusal, files
from experiments.training import run_directory, wandb_run


class Metrics:
  """Writes metrics.jsonl and timing.jsonl, and both to TensorBoard and Weights & Biases."""

  def __init__(
    self,
    lines: BinaryIO,
    timing: BinaryIO,
    events: EventsWriter | None,
    log: wandb_run.Log,
    digest: Any,
  ):
    self.lines, self.timing, self.events, self.log = lines, timing, events, log
    self.digest = digest  # hashlib's, of metrics.jsonl so far

  @classmethod
  @contextlib.contextmanager
  def opened(
    cls, directory: Path, config: Config, size: int, digest: str, step: int
  ) -> Iterator[Self]:
    """Continues metrics.jsonl after ``size`` bytes of this ``digest``, as a checkpoint of ``step``
    saw it; older checkpoints have none."""
    if jax.process_index():  # only the first process writes
      with open(os.devnull, "ab") as nowhere:
        nothing = lambda split, step, values: None
        yield cls(nowhere, nowhere, None, nothing, hashlib.sha256())
      return
    (directory / "tensorboard").mkdir(exist_ok=True)
    path = directory / run_directory.METRICS
    with open(path, "ab+") as lines, open(directory / "timing.jsonl", "ab") as timing:
      lines.seek(0)
      kept = hashlib.sha256(lines.read(size))
      if lines.tell() < size or digest not in ("", kept.hexdigest()):
        raise Refusal(
          f"{path} is not as it was at the last checkpoint: restore it, or delete {directory} to"
          " start again"
        )
      lines.truncate(size)
      # Not SummaryWriter, whose thread hides the error of a full disk.
      events = EventsWriter(str(directory / "tensorboard" / "events"), f".{step}")
      with contextlib.closing(events), wandb_run.opened(config, directory) as log:
        events.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
        yield cls(lines, timing, events, log, kept)

  def write(self, split: str, step: int, values: dict[str, float]) -> None:
    self.digest.update(self._append(self.lines, {"split": split, "step": step} | values))
    self._add_events(split, step, values)
    self.log(split, step, values)

  def write_timing(self, step: int, values: dict[str, float]) -> None:
    self._append(self.timing, {"step": step} | values)
    self._add_events("timing", step, values)
    self.log("timing", step, values)

  def _append(self, file, values) -> bytes:
    # Python writes NaN and Infinity: the metrics of a diverged run are kept too.
    line = (json.dumps(values) + "\n").encode()
    file.write(line)
    file.flush()
    return line

  def _add_events(self, split, step, values):
    if self.events:
      scalars = [Summary.Value(tag=f"{split}/{name}", simple_value=x) for name, x in values.items()]
      summary = Summary(value=scalars)
      self.events.write_event(Event(wall_time=time.time(), step=step, summary=summary))

  def sync(self) -> tuple[int, str]:
    """Flushes all files to the disk; returns the size and the digest of metrics.jsonl."""
    if self.events:
      self.events.flush()
      for file in (self.lines, self.timing):
        os.fsync(file.fileno())
    return os.fstat(self.lines.fileno()).st_size, self.digest.hexdigest()


def read_metrics(directory: Path, split: str) -> list[dict[str, float]]:
  return [row for row in read_lines(directory) if row["split"] == split]


def read_lines(directory: Path) -> list[dict[str, Any]]:
  path = directory / run_directory.METRICS
  if not path.exists():
    return []
  with files.reading(path, run_directory.again(directory)):
    run_directory.check_digest(path)
    # A killed run may have left half a line after the last newline.
    rows = [files.from_json(path, line) for line in path.read_bytes().split(b"\n")[:-1]]
    first: dict[str, Any] = {}
    for number, row in enumerate(rows, start=1):
      if not _is_row(row) or row.keys() != first.setdefault(row["split"], row).keys():
        raise ValueError(f"line {number} is not like the others")
  return rows


def _is_row(row: Any) -> bool:
  if not isinstance(row, dict) or not isinstance(row.get("split"), str):
    return False
  return all(isinstance(x, int | float) for name, x in row.items() if name != "split")
