"""Makes the page on citing from ``CITATION.cff``: BibTeX of flatopt and of each method's paper."""

from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

CITATION = Path(__file__).parents[2] / "CITATION.cff"
INTRO = """# Cite

If you use flatopt in a paper, please cite it and the papers of the methods that you use. Every block below is BibTeX
for LaTeX, with a button to copy it. GitHub's *Cite this repository* reads the same file, `CITATION.cff`.

"""


def bibtex(entry: dict[str, Any], address: str | None = None) -> str:
  """The entry of a reference of ``CITATION.cff``, or of the file itself, whose authors are no persons."""
  if entry["type"] == "software":
    kind, key, names = (
      "software",
      "flatopt",
      [f"{{{author['name']}}}" for author in entry["authors"]],
    )
  else:
    kind, year, method = "article", entry["year"], entry["notes"].partition(",")[0]
    names = [f"{author['family-names']}, {author['given-names']}" for author in entry["authors"]]
    key = f"{names[0].partition(',')[0].lower()}{year}{method}"
  fields = {
    "title": f"{{{entry['title']}}}",
    "author": " and ".join(names),
    "year": entry.get("year"),
    "version": entry.get("version"),
    "doi": entry.get("doi"),
    "url": entry.get("url", address),
  }
  lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
  return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def text_of(citation: dict[str, Any], address: str | None = None) -> str:
  lines = [INTRO, "## flatopt", "", "```bibtex", bibtex(citation, address), "```", ""]
  for paper in citation["references"]:
    methods = ", ".join(f"`{name}`" for name in paper["notes"].split(", "))
    lines += [f"## {methods}", "", "```bibtex", bibtex(paper), "```", ""]
  return "\n".join(lines)


def on_files(files: Files, config: MkDocsConfig) -> Files:
  content = text_of(yaml.safe_load(CITATION.read_text()), config.repo_url)
  files.append(File.generated(config, "citing.md", content=content))
  return files
