"""A run that was killed, interrupted or broken off ends as one that was not, to the last bit."""

import random
import signal
import time

import pytest

from experiments import presets
from experiments.methods import methods_on
from tests.experiments import runs

pytestmark = pytest.mark.slow  # processes that are killed and started again: twenty minutes

RUNS = {m: ("--method", m) for m in methods_on(presets.CONFIGS["digits"].opt.base)} | {
  "augmented": (
    *("--data.augment.crop", "1", "--data.augment.flip", "--data.augment.cutout", "2"),
    *("--data.augment.mixup", "0.5", "--data.wrong-labels", "0.2"),
  )
}


def finish(directory, *flags, config="digits"):
  process = runs.start(directory, *flags, config=config)
  _, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors


def killed(directory, flags, lines, delay, signum, config="digits"):
  """Goes on with a run and sends ``signum`` ``delay`` seconds after it wrote so many metrics."""
  metrics = directory / "metrics.jsonl"
  before = metrics.stat().st_mtime_ns if metrics.exists() else 0
  process = runs.start(directory, *flags, config=config)
  while process.poll() is None:
    wrote = metrics.exists() and metrics.stat().st_mtime_ns > before  # in this process
    if wrote and metrics.read_bytes().count(b"\n") >= lines:
      time.sleep(delay)
      process.send_signal(signum)
      break
    time.sleep(0.001)
  _, errors = process.communicate(timeout=300)
  return process.returncode, errors


@pytest.mark.parametrize("name", RUNS)
def test_sigkill_at_a_random_moment(name, tmp_path):
  flags = *RUNS[name], "--training.evaluations", "10"
  finish(tmp_path / "whole", *flags)
  lines = (tmp_path / "whole" / "metrics.jsonl").read_bytes().count(b"\n")
  moment = random.Random(name)
  for _ in range(2):
    at, delay = moment.randrange(lines // 2), moment.uniform(0, 0.02)
    code, _ = killed(tmp_path / "killed", flags, at, delay, signal.SIGKILL)
    assert code == -signal.SIGKILL
  finish(tmp_path / "killed", *flags)
  runs.assert_same_ending(tmp_path / "whole", tmp_path / "killed")


def test_sigkill_of_the_demo_s_config(tmp_path):
  finish(tmp_path / "whole", config="demo")
  code, _ = killed(tmp_path / "killed", (), 5, 0.01, signal.SIGKILL, config="demo")
  assert code == -signal.SIGKILL
  finish(tmp_path / "killed", config="demo")
  runs.assert_same_ending(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_leave(signum, tmp_path):
  code, errors = killed(tmp_path / "run", (), 5, 0, signum)
  assert code == 128 + signum
  (line,) = errors.splitlines()
  assert "run the same command again to continue" in line
  metrics, arrays = runs.ending(tmp_path / "run")
  assert metrics == (tmp_path / "run" / "metrics.jsonl").read_bytes()
  assert arrays


def test_full_disk_loses_nothing(tmp_path):
  """No file may grow beyond a limit that the first checkpoints keep and a later write breaks."""
  # The cache of compiled functions would be the first to break it.
  limit = "env", "-u", "JAX_COMPILATION_CACHE_DIR", "sh", "-c", 'ulimit -f 40; exec "$@"', "sh"
  process = runs.start(tmp_path / "run", "--training.budget", "100000", prefix=limit)
  _, errors = process.communicate(timeout=300)
  assert process.returncode == 2
  (line,) = errors.splitlines()
  assert "too large" in line.lower()
  assert str(tmp_path / "run") in line
  before, _ = runs.ending(tmp_path / "run")
  assert before
