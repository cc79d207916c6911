"""Runs the python blocks of every page, in order, in one namespace a page."""

import pathlib
import re

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
  page
  for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
  if page.exists() and BLOCK.search(page.read_text())
  if page.name != "libraries.md"  # tests/libraries runs it, where those libraries are
)


@pytest.mark.usefixtures("names_of_today")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs(page):
  text = page.read_text()
  namespace = {"__name__": "__main__"}
  # As users run it: optax.adam does not pass under strict promotion.
  with jax.numpy_dtype_promotion("standard"):
    for block in BLOCK.finditer(text):
      blank_lines = "\n" * text.count("\n", 0, block.start(1))  # tracebacks show the page's lines
      exec(compile(blank_lines + block[1], str(page), "exec"), namespace)


def test_pages_are_found():
  assert len(PAGES) > 10
