"""What is installed: version, metadata, archives, and ``python -m flatopt``."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import flatopt
from docs.hooks import reference
from flatopt import __main__ as command
from hatch_build import with_absolute_links

ROOT = Path(__file__).parents[1]
METHODS = {name for _, module in command.PLACES for name in command.methods_of(module)}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
  """Names in the sdist, names in the wheel, and the wheel's metadata."""
  out = tmp_path_factory.mktemp("dist")
  address = {"REPOSITORY_URL": "https://example.org/owner/flatopt"}
  build = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
  subprocess.run(build, cwd=ROOT, env=os.environ | address, capture_output=True, check=True)
  (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
  with tarfile.open(sdist) as tar:
    names = [name.partition("/")[2] for name in tar.getnames()]
  with zipfile.ZipFile(wheel) as archive:
    (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    return names, archive.namelist(), archive.read(metadata).decode()


def test_archives_hold_the_package_and_nothing_else(archives):
  sdist, wheel, _ = archives
  sources = {str(path.relative_to(ROOT)) for path in (ROOT / "flatopt").rglob("*.py")}
  sources.add("flatopt/py.typed")
  files = "CHANGELOG.md CITATION.cff LICENSE README.md hatch_build.py pyproject.toml"
  assert set(sdist) == sources | set(files.split()) | {"PKG-INFO", ".gitignore"}
  assert {name for name in wheel if ".dist-info/" not in name} == sources


def test_metadata(archives):
  *_, metadata = archives
  header, _, readme = metadata.partition("\n\n")
  assert f"Version: {flatopt.__version__}\n" in header
  assert "Author: flatopt contributors\n" in header
  assert "Project-URL: Source, https://example.org/owner/flatopt\n" in header
  required = set(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", header, re.MULTILINE))
  assert required == {"jax", "optax"}
  assert set(re.findall(r"^Provides-Extra: (\S+)$", header, re.MULTILINE)) == {
    *("equinox", "flax", "plots")
  }
  assert "# flatopt" in readme
  assert not re.search(r'\]\((?!https?://|#)|src(?:set)?="(?!https?://)', readme)


def test_absolute_links():
  text = '[a](docs/a.md#b) [c](#d) [e](https://f.org) <img src="g.png"> [h](i/)'
  assert with_absolute_links(text, "https://x.org/r") == (
    "[a](https://x.org/r/blob/main/docs/a.md#b) [c](#d) [e](https://f.org)"
    ' <img src="https://x.org/r/raw/main/g.png"> [h](https://x.org/r/blob/main/i/)'
  )


def test_citation_has_the_version_and_a_paper_of_every_method():
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  assert citation["version"] == flatopt.__version__
  cited = {name for paper in citation["references"] for name in paper["notes"].split(", ")}
  assert cited == METHODS


def test_dir_shows_what_the_reference_has_and_no_more():
  placed = {a for parts in reference.sections().values() for _, names in parts for a in names}
  functions = {a.removeprefix("flatopt.") for a in placed if a.count(".") == 1}
  modules = {"closures", "curvature", "schedules", "sharpness", "equinox", "linen", "nnx", "plots"}
  assert set(dir(flatopt)) == functions | modules | {"__version__"}
  for name in dir(flatopt):
    getattr(flatopt, name)


def test_hyper_parameters_are_keywords_after_the_first():
  for name in METHODS:
    kinds = inspect.signature(getattr(flatopt, name)).parameters.values()
    _, *others = [p.name for p in kinds if p.kind is not p.KEYWORD_ONLY]
    assert others in ([], ["probability"]), name


def test_the_command_says_what_is_there():
  assert {"sam", "ire", "sala"} <= METHODS
  text = "\n".join(command.lines())
  assert text.startswith(f"flatopt {flatopt.__version__}\njax ")
  assert re.search(r"^8 x \w+ \(cpu\)$", text, re.MULTILINE)
  assert re.search(r"^  sam +one extra gradient per step$", text, re.MULTILINE)
  for name in METHODS:
    assert re.search(rf"^  {name} +\S.*gradient", text, re.MULTILINE), name
  before, around = text.index("before the base"), text.index("around the base")
  assert before < text.index("  sam ") < around < text.index("  sala ")


@pytest.mark.parametrize(
  ("module", "library", "extra"),
  [
    ("equinox", "equinox", "equinox"),
    ("linen", "flax", "flax"),
    ("nnx", "flax", "flax"),
    ("plots", "matplotlib", "plots"),
  ],
)
def test_without_its_library_a_module_names_the_extra(module, library, extra, monkeypatch):
  def is_inside(name, package):
    return name == package or name.startswith(f"{package}.")

  for name in list(sys.modules):
    if is_inside(name, f"flatopt.{module}"):
      monkeypatch.delitem(sys.modules, name)
    if is_inside(name, library):
      monkeypatch.setitem(sys.modules, name, None)
  monkeypatch.setitem(sys.modules, library, None)
  message = rf"flatopt\.{module} needs {library}: pip install 'flatopt\[{extra}\]'"
  with pytest.raises(ModuleNotFoundError, match=message):
    importlib.import_module(f"flatopt.{module}")


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["sam"], 2)])
def test_the_command_explains_its_arguments(arguments, code):
  run = subprocess.run(
    [sys.executable, "-m", "flatopt", *arguments], cwd=ROOT, capture_output=True, text=True
  )
  assert run.returncode == code
  assert "usage: python -m flatopt [-h]" in run.stdout + run.stderr
  assert "before the base optimizer" not in run.stdout


def test_modules_that_need_other_libraries_are_imported_when_used():
  """And not before: ``import flatopt`` stays light."""
  program = """
import sys, flatopt
assert not {"flax", "equinox", "matplotlib"} & set(sys.modules)
assert all(hasattr(flatopt, name) for name in ("equinox", "linen", "nnx", "plots"))
assert flatopt.nnx.value_and_grad and not hasattr(flatopt, "SAM")
"""
  subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
