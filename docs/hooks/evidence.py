"""Shows figures of kept results on the pages of the evidence, tables as cards on phones, and ± unbroken.

A page names a figure by its path in the repository, so that its source shows it there too.
"""

import html
import itertools
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
RESULTS = "../../experiments/results/"
FIGURE = re.compile(rf"\({re.escape(RESULTS)}(\S+\.png)\)")
CARDS = re.compile(r'<div class="cards">.*?</div>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
  texts = [file.content_string for file in files if file.src_uri.startswith("evidence/")]
  for name in sorted({name for text in texts for name in FIGURE.findall(text)}):
    path = ROOT / "experiments" / "results" / name
    files.append(File.generated(config, f"evidence/{name}", abs_src_path=str(path)))
  return files


def on_page_markdown(markdown: str, **_) -> str:
  return FIGURE.sub(r"(\1)", markdown)


def on_page_content(content: str, **_) -> str:
  unbroken = content.replace(" ± ", "\u00a0±\u00a0")
  return CARDS.sub(_with_labels, unbroken)


def _with_labels(table: re.Match) -> str:
  """Each cell with its column's heading, which the style sheet shows where cells are stacked."""
  heads = re.findall(r"<th[^>]*>(.*?)</th>", table[0])
  labels = (html.escape(re.sub("<.*?>", "", head)) for head in itertools.cycle(heads))
  return re.sub(r"<td", lambda _: f'<td data-label="{next(labels)}"', table[0])
