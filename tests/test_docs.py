"""Runs the python blocks of every page, in order, in one namespace a page.

``<!-- after: sam.md -->`` in a page says that its blocks need the first block of that page.
"""

import pathlib
import re

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AFTER = re.compile(r"^<!-- after: (\S+) -->$", re.MULTILINE)
PAGES = sorted(
  page
  for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
  if page.exists() and BLOCK.search(page.read_text())
  if page.name != "libraries.md"  # tests/libraries runs it, where those libraries are
)


@pytest.mark.usefixtures("names_of_today")
@pytest.mark.filterwarnings("ignore:Sharding info")  # older Orbax, of a restore without a target
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_runs(page):
  namespace = {"__name__": "__main__"}
  needed = [(page.parent / name[1], 1) for name in AFTER.finditer(page.read_text())]
  # As users run it: optax.adam does not pass under strict promotion.
  with jax.numpy_dtype_promotion("standard"):
    for path, num_blocks in (*needed, (page, None)):
      text = path.read_text()
      for block in list(BLOCK.finditer(text))[:num_blocks]:
        blank_lines = "\n" * text.count("\n", 0, block.start(1))  # tracebacks show the page's lines
        exec(compile(blank_lines + block[1], str(path), "exec"), namespace)


def test_pages_are_found():
  assert len(PAGES) > 10
