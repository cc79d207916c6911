"""The whole trainers of ``examples/trainers``: they resume to the bit, and the page shows their diffs."""

import difflib
import importlib
import itertools
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
NUM_STEPS = 4


@pytest.fixture(autouse=True)
def standard_promotion(strict_promotion):
  with jax.numpy_dtype_promotion("standard"):  # flax promotes
    yield


def train(module, run_dir, capsys):
  module.main(["--steps", str(NUM_STEPS), "--run-dir", str(run_dir)])
  return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["linen_plain", "linen_sharp", "nnx_plain", "nnx_sharp"])
def test_a_killed_run_ends_as_if_it_had_not_been_killed(name, tmp_path, capsys, monkeypatch):
  module = importlib.import_module(f"examples.trainers.{name}")
  monkeypatch.setattr(module, "EVALUATE_EVERY", 2)
  whole = train(module, tmp_path / "whole", capsys)

  batch_at, steps = module.batch_at, itertools.count()
  with monkeypatch.context() as killed:
    killed.setattr(module, "batch_at", lambda *args: 1 / (next(steps) < 3) and batch_at(*args))
    with pytest.raises(ZeroDivisionError):
      train(module, tmp_path / "killed", capsys)
  assert capsys.readouterr().out.splitlines() == whole[:1]
  assert train(module, tmp_path / "killed", capsys) == whole[1:]


@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_the_page_shows_the_diff(framework):
  before, after = (
    (ROOT / f"examples/trainers/{framework}_{kind}.py").read_text().partition('"""\n\n')[2]
    for kind in ("plain", "sharp")
  )
  lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm="")
  shown = "\n".join(line for line in lines if line[:2] not in ("--", "++", "@@"))
  assert f"```diff\n{shown}\n```" in (ROOT / "docs/trainers.md").read_text(), shown
