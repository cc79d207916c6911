"""A run's files: config.json, metrics.jsonl, timing.jsonl, summary.json, tensorboard/, and every
test example's score at the end in test_scores.npy. A digest of what was measured is in summary.json,
and in every checkpoint one of the metrics so far.

metrics.jsonl is the same to the last bit when a run is repeated; timing.jsonl holds what depends on
the machine's speed.
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
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from experiments import config as configuration
from experiments.config import Config, Refusal, files
from experiments.config.locks import locked
from experiments.training import wandb_run

METRICS, SUMMARY = "metrics.jsonl", "summary.json"


def read_config(directory: Path) -> Config:
  path = directory / "config.json"
  if not path.exists():
    raise Refusal(f"{directory} holds no run: there is no config.json")
  saved = files.read_json(path)["config"]
  try:
    config = configuration.from_dict(saved)
    if not isinstance(config, Config):
      raise TypeError(f"it holds {saved!r:.40}")
  except (TypeError, ValueError) as error:
    raise Refusal(f"{path} is not a config of this version: {error}") from error
  return config


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
    raise Refusal(
      f"{directory} holds a run of another config, so name another --run_dir: {', '.join(lines)}"
    )


def finished(directory: Path, config: Config) -> dict[str, Any] | None:
  """The result of a finished run of ``config``, which reading needs no lock for."""
  if not (directory / SUMMARY).exists():
    return None
  refuse_another(directory, config)
  return read_summary(directory)


def read_summary(directory: Path) -> dict[str, Any]:
  summary = files.read_json(directory / SUMMARY)
  summary.pop("digests", None)
  summary["steps"], summary["gradients"]  # refused here where it lacks them
  return summary


def write_summary(directory: Path, result: dict[str, Any]) -> None:
  """Marks the run as finished."""
  measured = directory / METRICS, *directory.glob("*_scores.npy")
  digests = {path.name: files.digest_of(path) for path in measured}
  files.write_json(directory / SUMMARY, result | {"digests": digests})


def check_digest(path: Path) -> None:
  """Raises an error where a file is not as it was when its run was finished."""
  summary = path.parent / SUMMARY
  saved = files.read_json(summary).get("digests", {}) if summary.exists() else {}
  if path.name in saved and saved[path.name] != files.digest_of(path):
    raise ValueError(f"it is not what {SUMMARY} was written for")


def write_config(directory: Path, config: Config) -> None:
  """Writes config.json, after every check of the config."""
  path = directory / "config.json"
  if jax.process_index() == 0 and not path.exists():
    files.write_json(path, {"config": configuration.to_dict(config), "versions": files.versions()})


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
    path = directory / METRICS
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


def write_scores(directory: Path, split: str, scores_N: np.ndarray) -> None:
  """Keeps the scores of the last evaluation's examples."""
  if jax.process_index():
    return
  with files.written_whole(_scores(directory, split)) as draft, open(draft, "wb") as file:
    np.save(file, scores_N.astype(np.float32), allow_pickle=False)


def read_scores(directory: Path, split: str = "test") -> np.ndarray | None:
  """Every example's score at the end of a run; None where an older version has not kept them."""
  path = _scores(directory, split)
  if not path.exists():
    return None
  with files.reading(path, _again(directory)):
    check_digest(path)
    scores_N = np.load(path, allow_pickle=False)
    if scores_N.ndim != 1 or scores_N.dtype != np.float32:
      raise ValueError(f"it holds {scores_N.dtype} of shape {scores_N.shape}")
  return scores_N


def _scores(directory: Path, split: str) -> Path:
  return directory / f"{split}_scores.npy"


def read_metrics(directory: Path, split: str) -> list[dict[str, float]]:
  return [row for row in read_lines(directory) if row["split"] == split]


def read_lines(directory: Path) -> list[dict[str, Any]]:
  path = directory / METRICS
  if not path.exists():
    return []
  with files.reading(path, _again(directory)):
    check_digest(path)
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


def _again(directory: Path) -> str:
  return f"restore it, or delete {directory} and run it again"
