"""Every section of the page has a test file of its name, and every test file a section."""

from pathlib import Path

import pytest

from tests.libraries import page

pytestmark = pytest.mark.libraries


def test_every_section_is_tested():
  files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
  titles = {title.lower().replace(" ", "_") for title in page.sections() if title}
  assert titles == files - {"page"}
