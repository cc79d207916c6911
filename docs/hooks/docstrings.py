"""Fits docstrings to what the reference's renderer knows of Google's sections.

``Example:`` becomes ``Examples:``, whose prompts are highlighted; ``State:`` and ``Source:``, which
it would draw as boxes, become a titled list of fields and a titled paragraph. Where several arguments
share a text, each gets it. Two errors with one text become a union: a tuple would get brackets.
"""

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
TITLED = re.compile(r"^(State|Source):\n((?:[ ]+.*\n?|\n(?=[ ]))+)", re.MULTILINE)
# The names of fields, at the start of a sentence.
FIELDS = re.compile(r"(?:^|(?<=\.) )([\w.]+(?:, [\w.]+)*): ")
# Several arguments with one text.
GROUPED = re.compile(r"^  ([a-z]\w*(?:, [a-z]\w*)+): (.*(?:\n   +.*)*)", re.MULTILINE)


def fitted(docstring: str) -> str:
  docstring = EXAMPLE.sub("Examples:", docstring)
  docstring = docstring.replace("ValueError, TypeError:", "ValueError | TypeError:")
  docstring = TITLED.sub(_paragraph, docstring)
  return GROUPED.sub(_one_each, docstring)


def _one_each(entry: re.Match) -> str:
  return "\n".join(f"  {name}: {entry[2]}" for name in entry[1].split(", "))


def _paragraph(section: re.Match) -> str:
  title = f'<span class="doc-section-title">{section[1]}:</span>'
  text = textwrap.dedent(section[2]).rstrip()
  if section[1] == "State":
    text = FIELDS.sub(_item, " ".join(text.split())).lstrip()
  return f"{title}\n\n{text}\n"


def _item(names: re.Match) -> str:
  return "\n- " + ", ".join(f"`{name}`" for name in names[1].split(", ")) + ": "


class Docstrings(griffe.Extension):
  def on_object(self, *, obj: griffe.Object, **_) -> None:
    if obj.docstring:
      obj.docstring.value = fitted(obj.docstring.value)
