"""A run's files: config.json, summary.json, which ends the run and has digests of what was measured,
and every test example's score at the end in test_scores.npy.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import config as configuration
from experiments.config import Config, Refusal, files
from experiments.config.locks import locked

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
  with files.reading(path, again(directory)):
    check_digest(path)
    scores_N = np.load(path, allow_pickle=False)
    if scores_N.ndim != 1 or scores_N.dtype != np.float32:
      raise ValueError(f"it holds {scores_N.dtype} of shape {scores_N.shape}")
  return scores_N


def _scores(directory: Path, split: str) -> Path:
  return directory / f"{split}_scores.npy"


def again(directory: Path) -> str:
  return f"restore it, or delete {directory} and run it again"
