"""HTML pages without external files, for light and dark colour schemes, and tables."""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from experiments.config import files

STYLE = """<style>
  :root { color-scheme: light dark; --ground: #fff; --ink: #1b1d21; --soft: #6a6f77;
    --line: #dfe2e6; --accent: #0072b2; }
  @media (prefers-color-scheme: dark) { :root { --ground: #15171b; --ink: #eceef1;
    --soft: #9aa0a8; --line: #363b43; --accent: #56b4e9; } }
  body { margin: 0 auto; padding: 3rem 1.25rem 5rem; max-width: 55rem; background: var(--ground);
    color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
  h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .75rem; }
  h2 { font-size: 1.15rem; margin: 3rem 0 .5rem; }
  p { max-width: 42rem; margin: .5rem 0; }
  .notice { border-left: 3px solid var(--accent); padding-left: .75rem; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; width: 100%; margin: 1rem 0 .5rem; font-size: .9rem;
    font-variant-numeric: tabular-nums; }
  th, td { padding: .4rem .5rem; text-align: right; white-space: nowrap;
    border-bottom: 1px solid var(--line); }
  th { color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal; }
  th:first-child, td:first-child { text-align: left; padding-left: 0; }
  td:first-child { font-weight: 600; white-space: pre-line; }
  .under td:first-child { color: var(--soft); font-weight: 400; padding-left: 1rem; }
  .text td:nth-child(2), .text th:nth-child(2) { text-align: left; white-space: normal; }
  .small { color: var(--soft); font-size: .875rem; }
  img { display: block; width: 100%; height: auto; margin: 3.5rem 0 0; }
  pre { overflow-x: auto; font-size: .8rem; }
  summary { cursor: pointer; }
</style>"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
  head = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    # Names from a run's files are part of the page: no script in them runs, nothing is fetched.
    '<meta http-equiv="Content-Security-Policy"'
    " content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
    f"<title>{html.escape(title)}</title>"
  )
  page = [head, STYLE, f"<h1>{html.escape(title)}</h1>", *parts, "</html>\n"]
  with files.written_whole(path) as draft:
    draft.write_text("\n".join(page))


def configuration(resolved: Any) -> str:
  """The resolved configuration, in a part of the page that opens on a click."""
  text = html.escape(json.dumps(resolved, indent=1))
  return (
    "<h2>Configuration</h2>\n<details><summary>Resolved configuration and versions</summary>"
    f"<pre>{text}</pre></details>"
  )


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table; rows that begin with a blank belong to the row above."""
  cells = lambda tag, texts: "".join(f"<{tag}>{html.escape(t)}</{tag}>" for t in texts)
  start = lambda row: '<tr class="under">' if row[0].startswith(" ") else "<tr>"
  lines = [start(row) + cells("td", row) for row in rows]
  return "\n".join(["<table>", "<tr>" + cells("th", header), *lines, "</table>"])


def picture(out: Path, name: str) -> str:
  """A picture with its light and its dark version, both inlined."""
  light, dark = (
    "data:image/png;base64," + base64.b64encode((out / f"{name}{suffix}.png").read_bytes()).decode()
    for suffix in ("", "-dark")
  )
  return (
    f'<picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
    f'<img src="{light}" alt="{name}: the table\'s numbers as a figure"></picture>'
  )


def terminal_table(
  header: Sequence[str], rows: Iterable[Sequence[str]], caption: str, columns: int | None = None
) -> Table:
  """A table of the first ``columns``; the page shows all of them."""
  table = Table(
    box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=caption, caption_justify="left"
  )
  for i, column in enumerate(header[:columns]):
    table.add_column(column, justify="right" if i else "left", no_wrap=True)
  for row in rows:
    table.add_row(*row[:columns])
  return table


def number(mean: float | None, error: float | None = None, sign: str = "", digits: int = 1) -> str:
  if mean is None:
    return "-"
  return f"{mean:{sign}.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
