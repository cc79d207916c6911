"""The error messages of docs/troubleshooting.md are those of the code."""

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
TABLE = PAGE.partition("## Error messages")[2].partition("\n## ")[0]
MESSAGES = re.findall(r"^\| `([^`]*)` \|", TABLE, re.MULTILINE)
PLACEHOLDER = "\0"  # for a value that is put into a text
NUM_WORDS = 14


@functools.cache
def beginnings():
  """What each text in flatopt can begin with: patterns that end two words after the last value put in."""
  found = set()
  for path in (ROOT / "flatopt").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      parts = node.values if isinstance(node, ast.JoinedStr) else [node]
      values = [p.value if isinstance(p, ast.Constant) else PLACEHOLDER for p in parts]
      if isinstance(node, ast.JoinedStr | ast.Constant) and all(isinstance(v, str) for v in values):
        words = re.sub(r"^(?:\w+|\0): ", "", "".join(values)).split(" ")
        for end in range(2, min(len(words), NUM_WORDS) + 1):
          if PLACEHOLDER not in "".join(words[end - 2 : end]):
            found.add(" ".join(words[:end]).rstrip(":;.,"))
  plain = {text for text in found if PLACEHOLDER not in text}
  pattern = lambda text: re.escape(text).replace(re.escape(PLACEHOLDER), ".+")
  return plain, [re.compile(pattern(text)) for text in found - plain if text[0] != "\n"]


def is_of_the_code(message):
  plain, patterns = beginnings()
  return message in plain or any(pattern.fullmatch(message) for pattern in patterns)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_of_the_code(message):
  assert is_of_the_code(message)


def test_messages_are_found():
  assert len(MESSAGES) > 25
  assert not is_of_the_code("grad_fn is absent")
