"""Every tutorial runs, and becomes a page and a notebook."""

import json

import jax
import pytest

from docs.hooks import tutorials

PATHS = sorted(tutorials.FOLDER.glob("*.py"))
NAMES = {
  *("cheaper_than_sam", "equinox_model", "language_model", "linen_batchnorm", "many_devices"),
  *("measure_flatness", "new_method", "nnx_dropout", "plain_jax", "resume"),
}


pytestmark = pytest.mark.usefixtures("names_of_today")


def test_all_are_there():
  assert {path.stem for path in PATHS} >= NAMES


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs_and_shows_something(path):
  with jax.numpy_dtype_promotion("standard"):  # as users run it
    cells = tutorials.run(path)
  assert cells[0].is_text
  assert cells[0].source.startswith("# ")
  assert any(cell.printed or cell.figures for cell in cells)


SCRIPT = """# %% [markdown]
# # Title
#
# Text.

# %%
from matplotlib import pyplot
print("printed")
1 + 1

# %%
from flatopt import plots
plots.landscape_line([1.0, 0.0, 1.0])
"""


def test_what_a_cell_prints_and_draws_stands_below_it(tmp_path):
  path = tmp_path / "small.py"
  path.write_text(SCRIPT)
  cells = tutorials.run(path)
  assert cells[0] == tutorials.Cell(True, "# Title\n\nText.")
  assert cells[1].printed == "printed\n2\n"
  light, dark = cells[2].figures
  assert "#ffffff" in light
  assert "#15171b" in dark
  assert "#ffffff" not in dark
  page, files = tutorials.page_of("small", cells)
  assert files == {"small-2.svg": light, "small-2-dark.svg": dark}
  assert (
    page.index("# Title") < page.index("small.ipynb") < page.index("```python\nfrom matplotlib")
  )
  assert "```text\nprinted\n2\n```" in page
  assert "(small-2.svg){ .only-light }" in page
  notebook = json.loads(tutorials.notebook_of(cells))
  assert [cell["cell_type"] for cell in notebook["cells"]] == ["markdown", "code", "code"]
  assert notebook["cells"][1]["outputs"][0]["text"] == ["printed\n", "2\n"]
