"""A run small enough for tests, in this process or one of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.training import loop

SMALL = (
  *("--data.batch-size", "16", "--model.width", "8", "--model.blocks", "1"),
  *("--training.budget", "60", "--training.checkpoint-every", "4"),
  *("--training.log-every", "3", "--training.evaluations", "3"),
)
TINY = "digits", *SMALL


def start(
  directory: Path,
  *flags: str,
  config: str = "digits",
  prefix: tuple[str, ...] = (),
  devices: int = 1,
) -> subprocess.Popen:
  """``train`` in a process of its own; compiled functions are kept beside ``directory``."""
  environment = os.environ | {
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
    "JAX_COMPILATION_CACHE_DIR": str(directory.parent / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  program = (*prefix, sys.executable, "-m", "experiments")
  return subprocess.Popen(
    [*program, "train", config, *SMALL, "--run-dir", str(directory), *flags],
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def ending(directory: Path) -> tuple[bytes, list[np.ndarray]]:
  """The metrics, and all arrays of the last checkpoint."""
  checkpoints = directory / "checkpoints"
  last = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
  path = checkpoints.absolute() / str(last) / "state"
  with ocp.PyTreeCheckpointer() as checkpointer:
    # As NumPy's: the devices of the run, which several processes had, are not here.
    on_host = ocp.RestoreArgs(restore_type=np.ndarray)
    saved = checkpointer.metadata(path).item_metadata.tree
    state = checkpointer.restore(path, restore_args=jax.tree.map(lambda _: on_host, saved))
  return (directory / "metrics.jsonl").read_bytes(), jax.tree.leaves(state)


def assert_same_ending(one: Path, other: Path) -> None:
  (metrics, arrays), (other_metrics, other_arrays) = ending(one), ending(other)
  assert metrics == other_metrics
  assert len(arrays) == len(other_arrays) > 0
  for x, y in zip(arrays, other_arrays, strict=True):
    np.testing.assert_array_equal(x, y)


class Killed(Exception):
  """In place of a process that ends."""


def killed_once(compare: Callable[[], None], out: Path, at: int) -> list[str]:
  """The runs below ``out`` that ``compare`` trains when it is killed in the ``at``-th, and again."""
  started: list[str] = []
  train = loop.train

  def train_until_killed(config, directory, console):
    if not (directory / "summary.json").exists():
      started.append(directory.relative_to(out).as_posix())
      if len(started) == at:
        raise Killed
    return train(config, directory, console)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "train", train_until_killed)
    with pytest.raises(Killed):
      compare()
    compare()
  return started
