"""Weights & Biases: an offline run's files, and what is refused."""

import os
import subprocess
import sys

import pytest

from experiments.commands.program import main
from tests.experiments import runs

# In processes of its own: wandb starts a service and handlers that stay until the process ends.
OFFLINE = {"WANDB_MODE": "offline", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_SILENT": "true"}
LOGS_TWICE = """
import dataclasses
import pathlib
import sys

from experiments import presets
from experiments.training import wandb_run

config, directory = presets.CONFIGS["digits"], pathlib.Path(sys.argv[1])
training = dataclasses.replace(config.training, wandb="flatopt")
with wandb_run.opened(config, directory) as log:
  log("train", 1, {"unseen": 1.0})
for step in (7, 5):  # as a run that was killed at step 7 and continues from step 4
  with wandb_run.opened(dataclasses.replace(config, training=training), directory) as log:
    log("train", step, {f"loss{step}": 0.5})
"""


def written(directory):
  """The records of every process that ran there, and their identifiers."""
  files = list(directory.glob("wandb/offline-run-*/*.wandb"))
  return b"".join(file.read_bytes() for file in files), {file.stem for file in files}, len(files)


def test_an_interrupted_run_continues_under_its_own_identifier(tmp_path):
  program = [sys.executable, "-W", "error", "-c", LOGS_TWICE, str(tmp_path)]
  ended = subprocess.run(program, env=os.environ | OFFLINE, capture_output=True, text=True)
  assert ended.returncode == 0, ended.stderr
  records, identifiers, _ = written(tmp_path)
  assert identifiers == {"run-" + (tmp_path / "wandb" / "id").read_text()}
  assert b"train/loss7" in records
  assert b"train/loss5" in records
  assert b"unseen" not in records


@pytest.mark.slow  # trains a run in a process of its own
def test_a_run_writes_its_metrics_for_weights_and_biases(tmp_path, monkeypatch):
  for name, value in OFFLINE.items():
    monkeypatch.setenv(name, value)
  process = runs.start(tmp_path / "run", "--training.wandb", "flatopt")
  _, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors
  records, _, number = written(tmp_path / "run")
  assert number == 1
  for name in (b"train/loss", b"train/sam/count", b"test/accuracy", b"timing/steps_per_second"):
    assert name in records


def test_a_missing_package_is_refused_in_one_line(monkeypatch, capsys, tmp_path):
  monkeypatch.setitem(sys.modules, "wandb", None)
  flags = *runs.TINY, "--training.wandb", "flatopt", "--run_dir", str(tmp_path / "run")
  assert main(["train", *flags]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  install = "pip install -c constraints.txt -e . --group wandb"
  assert line == f"python -m experiments: training.wandb needs the package wandb: {install}"
