"""A run's files on disks that flip bits, are full or read-only, and under a clock that jumps."""

import contextlib
import os
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest

import experiments
from experiments.commands.program import main
from experiments.config import Refusal, files
from experiments.data import text
from experiments.plots import style
from experiments.reports import page
from experiments.training import run_directory, saved_runs
from experiments.training.checkpoints import Checkpoints
from tests.experiments import runs
from tests.experiments.small import DIGITS


@contextlib.contextmanager
def full_disk():
  """No file may grow beyond ten bytes: the same error, but for its number, as of a full disk."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_figure(root):
  with files.writing(root):
    style.save_all({"one": lambda theme: matplotlib.figure.Figure()}, root)


WRITERS = {
  "config.json": lambda root: run_directory.write_config(root, DIGITS),
  "test_scores.npy": lambda root: run_directory.write_scores(root, "test", np.ones(99)),
  "summary.json": lambda root: run_directory.write_summary(root, {"steps": 1}),
  "table.csv": lambda root: files.write_csv(root / "table.csv", [{"column": "a value"}]),
  "report.html": lambda root: page.write_page(root / "report.html", "title", []),
  "one.png": write_figure,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_no_file(name, tmp_path):
  (tmp_path / "metrics.jsonl").touch()
  with full_disk(), pytest.raises(Refusal) as refused:
    WRITERS[name](tmp_path)
  (line,) = str(refused.value).splitlines()
  assert str(tmp_path) in line
  assert "cannot be written: File too large" in line
  written = [path for path in tmp_path.iterdir() if path.is_file() and path.stat().st_size]
  assert not written or name == "one.png"  # which is never read


def test_a_full_disk_keeps_checkpoints_and_no_half_of_the_tokens(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  (tmp_path / "text").mkdir()
  (tmp_path / "text" / "a.train").write_text("a text of more than a window")
  read = lambda: text.text_files("train", directory=str(tmp_path / "text"), length=4)
  with pytest.raises(Refusal, match=r"bytes-train\.tokens cannot be written"), full_disk():
    read()
  assert len(read()) == 7
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  checkpoints.save(1, {"w": jnp.ones(99)}, {})
  with pytest.raises(Refusal, match="no checkpoint of step 2 in "), full_disk():
    checkpoints.save(2, {"w": jnp.ones(99)}, {})
  checkpoints.close()
  state, _ = Checkpoints(tmp_path / "checkpoints").restore({"w": jnp.ones(99)})
  assert state["w"].tolist() == [1.0] * 99


FLAGS = "train", *runs.TINY, "--training.budget", "12", "--run-dir"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  directory = tmp_path_factory.mktemp("trained") / "run"
  assert main([*FLAGS, str(directory)]) == 0
  return directory


@pytest.fixture
def run(trained, tmp_path):
  """A copy, which a test may change."""
  return shutil.copytree(trained, tmp_path / "run")


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def test_a_flipped_bit_is_not_trained_on(run, capsys):
  def refused():
    assert main([*FLAGS, str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line

  metrics = (run / "metrics.jsonl").read_bytes()
  (run / "summary.json").unlink()
  last = run / "checkpoints" / "6"
  flip_a_bit(run / "metrics.jsonl")
  assert "metrics.jsonl is not as it was at the last checkpoint" in refused()
  flip_a_bit(run / "metrics.jsonl")
  flip_a_bit(max(last.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size))
  assert f"{last} is damaged: delete it to continue from step 4 (" in refused()
  shutil.rmtree(last)
  assert main([*FLAGS, str(run)]) == 0
  assert (run / "metrics.jsonl").read_bytes() == metrics


@contextlib.contextmanager
def read_only(directory):
  """Nothing below ``directory`` may be written, by root neither."""
  paths = [directory, *directory.rglob("*")]
  modes = {path: path.stat().st_mode for path in paths}
  root = os.geteuid() == 0
  for path, mode in modes.items():
    path.chmod(mode & ~0o222 | 0o444 | 0o111 * path.is_dir())
  for above in directory.parents if root else ():  # pytest's own
    if above == Path(tempfile.gettempdir()):
      break
    above.chmod(0o755)
  os.seteuid(65534 if root else os.geteuid())
  try:
    yield
  finally:
    os.seteuid(0 if root else os.geteuid())
    for path, mode in modes.items():
      path.chmod(mode)


def test_a_read_only_run_is_read(run, capsys):
  summary = files.read_json(run / "summary.json")
  with read_only(run):
    assert main([*FLAGS, str(run)]) == 0
    assert saved_runs.restore(run).step == summary["steps"] == 6
    assert len(experiments.load(run)) == 5
    capsys.readouterr()
    assert main(["report", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
  assert f"Permission denied: '{run}/curves.png'" in line


@pytest.mark.slow  # trains a run
def test_a_clock_that_jumps_changes_nothing(trained, tmp_path, monkeypatch):
  moments = random.Random(0)
  monkeypatch.setattr(time, "time", lambda: moments.uniform(0, 4e9))
  assert main([*FLAGS, str(tmp_path / "run")]) == 0
  runs.assert_same_ending(trained, tmp_path / "run")
  assert 0 < run_directory.read_summary(tmp_path / "run")["seconds"] < 60
