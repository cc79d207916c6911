"""The page itself: every section has a test file of its name, and every version is the one here."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.libraries import page

pytestmark = pytest.mark.libraries
TITLES = set(page.sections()) - {""}


def test_every_section_is_tested():
  files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
  assert {title.lower().replace(" ", "_") for title in TITLES} == files - {"page"}


def test_the_table_has_the_versions_that_run():
  rows = dict(re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\S+) \|", page.PATH.read_text(), re.MULTILINE))
  assert set(rows) == TITLES - {"Complex params"}
  assert rows == {name: version("dm-haiku" if name == "Haiku" else name) for name in rows}
