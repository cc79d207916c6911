"""The method pages: their tables have the signatures' defaults, their figures show what they say."""

import inspect
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import flatopt
from docs.figures import __main__ as figures
from docs.figures.cases import CASES, SGD
from docs.figures.draw import draw_asam, draw_case
from docs.figures.runs import run, two_minima
from experiments.plots.style import THEMES
from flatopt.__main__ import PLACES, methods_of

DOCS = Path(__file__).parents[1] / "docs"
METHODS = sorted(name for _, module in PLACES for name in methods_of(module))
FIGURES = sorted([*CASES, "asam"])
PAGES = sorted((DOCS / "methods").glob("*.md"))
ROW = re.compile(r"^\| `(\w+)`(?: \(\w+\))?(?:, `\w+`)? \| (.*?) \|", re.MULTILINE)


def table_of(page):
  """Of the page's table of hyper-parameters: name, default."""
  section = page.read_text().split("## Hyper-parameters")[1].split("\n## ")[0]
  return ROW.findall(section)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_defaults_are_those_of_the_signature(page):
  rows = table_of(page)
  assert rows
  for name, default in rows:
    expected = inspect.signature(getattr(flatopt, page.stem)).parameters[name].default
    written = re.match(r"`?(\"?[\w.-]+\"?)`?", default)[1]
    value = inspect.Parameter.empty if written == "required" else eval(written)
    assert value == expected, (page.stem, name)


def test_every_method_has_a_page():
  assert set(METHODS) <= {page.stem for page in PAGES}


@pytest.mark.parametrize("name", FIGURES)
def test_the_figure_stands_on_its_page(name):
  text = (DOCS / "methods" / f"{name}.md").read_text()
  for suffix in ("", "-dark"):
    assert f"../assets/methods/{name}{suffix}.png" in text
    assert (figures.OUT / f"{name}{suffix}.png").stat().st_size < 100_000


@pytest.fixture
def standard_promotion(strict_promotion):
  with jax.numpy_dtype_promotion("standard"):  # optax's momentum promotes
    yield


@pytest.mark.usefixtures("standard_promotion")
def test_sgd_is_caught_and_sam_is_not():
  case = CASES["sam"]
  sgd, sam = (run(o, two_minima, case.start, case.num_steps) for o in (SGD, case.optimizer))
  np.testing.assert_allclose(sgd.path[-1], [-0.91, 0], atol=0.02)
  np.testing.assert_allclose(sam.path[-1], [1.2, 0], atol=0.02)
  assert [len(points) for points in sam.looks] == [1] * case.num_steps
  distances = [np.linalg.norm(p[0] - w) for p, w in zip(sam.looks, sam.path, strict=False)]
  np.testing.assert_allclose(distances, 0.25, rtol=1e-4)


@pytest.mark.usefixtures("standard_promotion")
def test_figures_are_drawn():
  case = CASES["sala"]._replace(num_steps=10)
  for theme in THEMES.values():
    assert isinstance(draw_case("sala", case, theme), Figure)
    assert isinstance(draw_asam(theme), Figure)


def test_every_figure_can_be_drawn_again():
  drawn = {path.stem.removesuffix("-dark") for path in figures.OUT.glob("*.png")}
  assert drawn == set(FIGURES)
