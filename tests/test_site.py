"""The site's own code: the reference has everything, formulas and docstrings become what they should."""

import re
import types
from pathlib import Path

import markdown
import pytest
import yaml

import flatopt
from docs.hooks import about, citing, docstrings, evidence, maths, reference

FOUND = reference.sections()
ADDRESSES = [address for parts in FOUND.values() for _, names in parts for address in names]


def test_every_public_symbol_has_one_place():
  exported = {f"flatopt.{name}" for name in reference.public_names(flatopt)}
  assert {"flatopt.sam", "flatopt.eval_params", "flatopt.kth_smallest"} <= exported
  assert exported <= set(ADDRESSES)
  assert len(ADDRESSES) == len(set(ADDRESSES))
  assert not reference.missing(FOUND)
  assert set(ADDRESSES) >= {
    "flatopt.closures.micro_value_and_grad",
    "flatopt.curvature.hutchinson",
    "flatopt.linen.TrainState",
    "flatopt.nnx.micro_value_and_grad",
    "flatopt.plots.spectrum",
    "flatopt.schedules.rising_cosine",
    "flatopt.sharpness.trace",
  }


def test_what_has_no_place_is_named():
  without = {page: parts for page, parts in FOUND.items() if page not in ("plots", "sharpness")}
  absent = reference.missing(without)
  assert {"flatopt.plots.spectrum", "flatopt.sharpness.trace"} <= absent
  assert all(name.startswith(("flatopt.plots.", "flatopt.sharpness.")) for name in absent)


def test_every_address_leads_to_its_docstring():
  for address in ADDRESSES:
    module, _, name = reference.where_defined(address).rpartition(".")
    value = getattr(__import__(module, fromlist=[name]), name)
    assert isinstance(value, types.FunctionType | type)
    assert value.__doc__, address


def test_formulas_become_mathml():
  page = (
    '<p>a <span class="arithmatex">\\(x &lt; 1\\)</span></p>'
    '<div class="arithmatex">\\[\n\\rho \\frac{g}{\\lVert g \\rVert}\n\\]</div>'
  )
  content = maths.on_page_content(page)
  assert "arithmatex" not in content
  assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"' in content
  assert '<div class="formula"><math' in content
  assert "<mfrac>" in content
  assert "<mi>&#x003C1;</mi>" in content
  assert 'alttext="x &lt; 1"' in content


def test_docstring_sections_that_griffe_does_not_know():
  docstring = """One line.

Args:
  a, b: any
    number.

State:
  c, d.e: int32. f: text, which goes
  on, 0. g: h.

Raises:
  ValueError, TypeError: both.

Example:
  >>> 1
"""
  assert (
    docstrings.fitted(docstring)
    == """One line.

Args:
  a: any
    number.
  b: any
    number.

<span class="doc-section-title">State:</span>

- `c`, `d.e`: int32.
- `f`: text, which goes on, 0.
- `g`: h.

Raises:
  ValueError | TypeError: both.

Examples:
  >>> 1
"""
  )


def test_a_page_leads_to_the_repository():
  page = "git clone $REPOSITORY_URL flatopt\n<!-- no REPOSITORY_URL -->\nSet it.\n<!-- / -->\n`tests/a_b.py`, [`tests/c.py`](c.md), `flatopt/d.py`\n"
  assert about.with_repository(page, "https://x.org/o/r") == (
    "git clone https://x.org/o/r flatopt\n"
    "[`tests/a_b.py`](https://x.org/o/r/blob/main/tests/a_b.py), [`tests/c.py`](c.md), `flatopt/d.py`\n"
  )


def test_bibtex_of_flatopt_and_of_every_paper():
  page = citing.text_of(yaml.safe_load(citing.CITATION.read_text()), "https://x.org/o/r")
  first, *papers = re.findall(r"```bibtex\n(.*?)```", page, re.DOTALL)
  assert "@software{flatopt," in first
  assert "url = {https://x.org/o/r}" in first
  assert len({paper.partition(",")[0] for paper in papers}) == page.count("\n## ") - 1
  assert (
    papers[0]
    == """@article{foret2020sam,
  title = {{Sharpness-Aware Minimization for Efficiently Improving Generalization}},
  author = {Foret, Pierre and Kleiner, Ariel and Mobahi, Hossein and Neyshabur, Behnam},
  year = {2020},
  url = {https://arxiv.org/abs/2010.01412},
}
"""
  )


def test_figures_of_results_and_tables_as_cards():
  assert evidence.on_page_markdown(f"![a]({evidence.RESULTS}b/c.png)") == "![a](b/c.png)"
  cards = '<div class="cards">{}</div>'
  rows = "<th>a <code>b</code></th><th>c</th>{}"
  found = evidence.on_page_content(cards.format(rows.format("<td>1</td><td>2</td><td>3</td>")))
  labelled = '<td data-label="a b">1</td><td data-label="c">2</td><td data-label="a b">3</td>'
  assert found == cards.format(rows.format(labelled))
  assert evidence.on_page_content(other := "<th>a</th><td>1</td>") == other


DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: str(p.relative_to(DOCS)))
def test_no_bullet_stands_inside_a_paragraph(page):
  """As it does after an indented paragraph without an empty line between them."""
  html = markdown.markdown(page.read_text(), extensions=["tables", "pymdownx.superfences"])
  assert not re.findall(r"<p>[^<]*(?:<(?!/p>)[^<]*)*\n\s*- .*", html)
