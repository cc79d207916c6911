"""A module from outside the repository: the docs' own example, under every command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
from experiments.config import Refusal

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own_experiments.md").read_text()
KINDS = "methods", "bases", "models", "data", "configs"
ADDED = "half_sam", "sign_sgd", "two_layers", "stripes", "my-stripes"  # by the page's example


@pytest.fixture
def elsewhere(tmp_path):
  """A directory that holds the example, and a module that lacks what registers its method."""
  example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
  (tmp_path / "my_module.py").write_text(example)
  nameless = example.replace('@register_method("half_sam", place="before the base")\n', "")
  (tmp_path / "nameless.py").write_text(nameless)
  (tmp_path / "broken.py").write_text("1 / 0\n")
  return tmp_path


@pytest.fixture
def installed(tmp_path):
  """A directory with the example as a package that its metadata says to import, as pip leaves it."""
  site = tmp_path / "site"
  (site / "striped").mkdir(parents=True)
  (site / "striped" / "__init__.py").write_text(
    re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
  )
  metadata = site / "striped-1.0.dist-info"
  metadata.mkdir()
  (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: striped\nVersion: 1.0\n")
  (metadata / "entry_points.txt").write_text("[flatopt.experiments]\nmine = striped\n")
  return site


def run(directory, *programs):
  """The outputs of several command lines in one process, which starts in ``directory``."""
  lines = [f"main({program.split()!r})" for program in programs]
  program = "; ".join(["from experiments.commands.program import main", *lines])
  paths = os.pathsep.join([str(directory), str(ROOT)])
  return subprocess.run(
    [sys.executable, "-c", program],
    cwd=directory,
    env=os.environ | {"PYTHONPATH": paths, "COLUMNS": "200"},
    capture_output=True,
    text=True,
  )


def test_lists_and_refuses_in_one_line(elsewhere):
  listed = run(
    elsewhere,
    "list methods --import my_module",
    *(f"list {what}" for what in KINDS[1:]),
    "--import nothing list",
    "--import broken list",
    "--import",
  )
  assert all(name in listed.stdout for name in ADDED)
  assert listed.stderr.splitlines() == [
    "python -m experiments: --import nothing: No module named 'nothing'",
    "python -m experiments: --import broken: ZeroDivisionError: division by zero",
    "python -m experiments: --import needs the name of a module",
  ]


def test_an_installed_package_needs_no_flag(installed):
  listed = run(installed, *(f"list {what}" for what in KINDS))
  assert not listed.stderr
  for name in ADDED:
    assert re.search(rf"^\s*{name}\b", listed.stdout, re.MULTILINE), name


def test_an_installed_package_that_is_broken_is_refused_in_one_line(installed):
  (installed / "striped" / "__init__.py").write_text("import nothing")
  (line,) = run(installed, "list").stderr.splitlines()
  assert line == "python -m experiments: entry point mine striped: No module named 'nothing'"


@pytest.mark.slow  # trains a run
def test_an_installed_package_s_parts_train_together(installed):
  trained = run(
    installed,
    "train digits --data stripes --model two_layers --base sign_sgd --method half_sam"
    " --data.batch_size 32 --training.budget 30 --run_dir mixed",
    "report mixed",
  )
  assert not trained.stderr, trained.stderr
  config = json.loads((installed / "mixed" / "config.json").read_text())["config"]
  parts = config["data"]["set"], config["model"], config["opt"]["base"], config["opt"]["method"]
  assert [part["type"] for part in parts] == ["Stripes", "TwoLayersShape", "SignSgd", "HalfSam"]
  summary = json.loads((installed / "mixed" / "summary.json").read_text())
  assert (summary["steps"], summary["gradients"]) == (20, 30)


def test_a_missing_registration_is_one_line_before_anything_is_trained(elsewhere):
  flags = "compare my-stripes --methods sign_sgd sam --out out"
  refused = run(elsewhere, f"--import nameless {flags}")
  (line,) = refused.stderr.splitlines()
  said = "HalfSam has no name: put @register_method(name, place=...) above it"
  assert line == f"python -m experiments: --import nameless: {said}"
  assert not (elsewhere / "out").exists()


def test_results_of_before_are_tables():
  runs = experiments.load(ROOT / "experiments" / "results" / "2026-11-21-demo")
  assert set(runs["method"]) >= {"sgd", "sam", "ire(rho)"}
  assert len(runs) == 33
  assert runs["test_accuracy"].between(50, 100).all()
  with pytest.raises(Refusal, match="neither a run nor a finished comparison"):
    experiments.load(ROOT / "docs")


@pytest.mark.slow  # trains six runs
def test_compares_measures_and_reports(elsewhere):
  compared = run(
    elsewhere,
    "--import my_module compare my-stripes --methods sign_sgd sam half_sam:rho=0.1"
    " --seeds 2 --out out --data.batch_size 32",
    "report out/runs/sam/seed-0",
    "noise out --draws 2",
  )
  assert not compared.stderr, compared.stderr
  results = json.loads((elsewhere / "out" / "results.json").read_text())
  runs = experiments.load(elsewhere / "out")
  assert list(runs["method"]) == ["sign_sgd"] * 2 + ["sam"] * 2 + ["half_sam:rho=0.1"] * 2
  assert runs["test_accuracy"].min() > 80
  assert len((elsewhere / "out" / "results.csv").read_text().splitlines()) == 7
  assert len((elsewhere / "out" / "noise.csv").read_text().splitlines()) == 1 + 6 * 12
  sam, half = results["runs"]["sam"][0], results["runs"]["half_sam:rho=0.1"][0]
  assert sam["gradients"] == half["gradients"] == 60
  assert (sam["steps"], half["steps"]) == (30, 40)
  metrics = experiments.load(elsewhere / "out" / "runs" / "sam" / "seed-0")
  assert set(metrics["split"]) == {"train", "test"}
  without = run(elsewhere, "report out")
  assert "is not registered: --import the module that registers it" in without.stderr
