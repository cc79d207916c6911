"""Runs one section of ``docs/libraries.md``, so that the page and its tests cannot differ."""

import re
from pathlib import Path

PATH = Path(__file__).parents[2] / "docs" / "libraries.md"
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections():
  """Returns the titles of the sections with code, and the code of each; "" is the beginning."""
  titles_and_texts = SECTION.split(PATH.read_text())
  texts = dict(zip(["", *titles_and_texts[1::2]], titles_and_texts[::2], strict=True))
  blocks = {title: BLOCK.findall(text) for title, text in texts.items()}
  return {title: "\n".join(found) for title, found in blocks.items() if found}


def run(title, **replaced):
  """Returns the names that the section defines, with some names of the beginning replaced."""
  code, names = sections(), {}
  exec(compile(code[""], f"{PATH}, beginning", "exec"), names)
  names |= replaced
  exec(compile(code[title], f"{PATH}, {title}", "exec"), names)
  return names
