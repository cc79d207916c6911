"""Two processes that share a run over ``jax.distributed``."""

import json
import signal
import socket
import time

import numpy as np
import pytest

from tests.experiments import runs

pytestmark = pytest.mark.slow  # six processes that compile a training loop: two minutes


def start_two(directory, *flags):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  shared = "--distributed", "--coordinator-address", address, "--num-processes", "2", *flags
  return [
    runs.start(directory, *shared, "--process-id", str(process), devices=2) for process in (0, 1)
  ]


def finish(processes):
  for process in processes:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("fsdp", ["1", "2"])
def test_two_processes_are_one(tmp_path, fsdp):
  flags = "--training.fsdp", fsdp, "--training.budget", "20"
  finish([runs.start(tmp_path / "one", *flags, devices=4)])
  finish(start_two(tmp_path / "two", *flags))
  (_, one), (_, two) = runs.ending(tmp_path / "one"), runs.ending(tmp_path / "two")
  assert len(one) == len(two) > 0
  for x, y in zip(one, two, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)
  read = lambda name: json.loads((tmp_path / name / "summary.json").read_text())
  assert read("one")["gradients"] == read("two")["gradients"]
  own, theirs = (np.load(tmp_path / name / "test_scores.npy") for name in ("one", "two"))
  assert np.mean(theirs) == pytest.approx(read("two")["test_accuracy"])
  # Params differ by rounding, which may decide an image or two; the order must be the same.
  assert np.mean(own != theirs) < 0.01
  assert read("one")["test_loss"] == pytest.approx(read("two")["test_loss"], abs=1e-4)


def test_both_killed_go_on(tmp_path):
  finish(start_two(tmp_path / "whole"))
  processes = start_two(tmp_path / "killed")
  metrics = tmp_path / "killed" / "metrics.jsonl"
  while not metrics.exists() or metrics.read_bytes().count(b"\n") < 5:
    assert all(process.poll() is None for process in processes)
    time.sleep(0.001)
  for process in processes:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
  checkpoints = tmp_path / "killed" / "checkpoints"
  assert any(path.name.isdigit() for path in checkpoints.iterdir())
  finish(start_two(tmp_path / "killed"))
  runs.assert_same_ending(tmp_path / "whole", tmp_path / "killed")


def test_both_refuse_another_config(tmp_path):
  flags = "--training.budget", "8"
  finish([runs.start(tmp_path / "run", *flags, devices=4)])
  for process in start_two(tmp_path / "run", *flags, "--training.seed", "1"):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "--training.seed is 0 there, 1 here" in errors.splitlines()[-1]


def test_says_what_is_missing(tmp_path):
  process = runs.start(tmp_path / "run", "--distributed")
  _, errors = process.communicate(timeout=300)
  assert process.returncode == 2
  assert "--distributed: coordinator_address should be defined" in errors.splitlines()[-1]
