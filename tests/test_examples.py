"""Every script in ``examples`` trains: short enough to read, and for a few steps on eight devices."""

import importlib
import math
import re
from pathlib import Path

import jax
import pytest

FOLDER = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
ON_SEVERAL_DEVICES = ("data_parallel", "sharded")
NUM_STEPS = 10
pytestmark = pytest.mark.usefixtures("names_of_today")


@pytest.fixture(autouse=True)
def standard_promotion(strict_promotion):
  with jax.numpy_dtype_promotion("standard"):  # flax and equinox promote
    yield


def run(name, capsys):
  importlib.import_module(f"examples.{name}").main(["--steps", str(NUM_STEPS)])
  printed = capsys.readouterr().out
  losses = [float(loss) for loss in re.findall(r"^step +\d+ +loss (\S+)$", printed, re.MULTILINE)]
  assert len(losses) >= 2
  assert all(math.isfinite(loss) for loss in losses)
  assert losses[-1] < losses[0]
  (accuracy,) = re.findall(r"^test accuracy (\S+)$", printed, re.MULTILINE)
  assert 0 <= float(accuracy) <= 1
  assert re.search(rf"^gradient evaluations: {NUM_STEPS} \+ \d+$", printed, re.MULTILINE)
  return printed


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(name, capsys):
  printed = run(name, capsys)
  if name == "data_parallel":
    assert printed.startswith("8 devices, 16 examples on each")
  if name == "sharded":
    assert printed.startswith("mesh {'data': 4, 'model': 2}")
    assert re.search(r"'up': \"\w+\(None, 'model'\)\"", printed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_SEVERAL_DEVICES)
def test_one_device_is_enough(name, capsys, monkeypatch):
  monkeypatch.setattr(jax, "device_count", lambda: 1)
  run(name, capsys)


@pytest.mark.parametrize("name", NAMES)
def test_at_most_120_lines_and_says_how_to_run(name):
  text = (FOLDER / f"{name}.py").read_text()
  assert len(text.splitlines()) <= 120
  assert f"python -m examples.{name}" in text
  assert f"make example NAME={name}" in text


def test_all_frameworks_are_there():
  expected = "data_parallel equinox_mlp linen_resnet nnx_vit plain_jax sharded"
  assert set(expected.split()) <= set(NAMES)
