r"""Renders ``$...$`` and ``$$...$$`` as MathML, which browsers draw without a script or a font.

arithmatex marks the formulas in the page as ``\(...\)`` and ``\[...\]``; here they are converted.
"""

import html
import re
from xml.etree import ElementTree

from latex2mathml.converter import convert_to_element

FORMULA = re.compile(
  r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
BARS = ("|", "&#x0007C;", "&#x02016;")  # norms, which browsers would space and stretch
ENTITY = re.compile(r"&amp;(#x[0-9A-Fa-f]+);")


def on_page_content(content: str, **_) -> str:
  return FORMULA.sub(_mathml, content)


def _mathml(match: re.Match) -> str:
  latex = html.unescape(match["latex"]).strip()
  display = "block" if match["tag"] == "div" else "inline"
  element = convert_to_element(latex, display=display)
  for sign in element.iter("mo"):
    if sign.text in BARS:
      sign.attrib |= {"lspace": "0", "rspace": "0", "stretchy": "false"}
  # Screen readers and the search get the formula as it was written.
  element.set("alttext", latex)
  text = ElementTree.tostring(element, encoding="unicode")
  text = ENTITY.sub(r"&\1;", text)  # latex2mathml's signs are entities already
  return f'<div class="formula">{text}</div>' if display == "block" else text
