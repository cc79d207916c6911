"""Runs the tutorials, and makes of each a page and a notebook with what it printed and drew.

A tutorial is a script in the percent format: ``# %%`` begins a cell of code, ``# %% [markdown]`` one of
text. All cells of a script share one namespace. What a cell prints is shown below it, and so is the value
of its last line: as a figure if it is one of matplotlib's, which is drawn for light and for dark ground.
"""

import ast
import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

# Before JAX looks for devices: one tutorial is about several.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

from matplotlib import pyplot
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

from flatopt import plots

FOLDER = Path(__file__).parents[1] / "tutorials"
LOG = get_plugin_logger("tutorials")
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


class Cell(NamedTuple):
  is_text: bool
  source: str
  printed: str = ""
  figures: tuple[str, ...] = ()  # SVG for light and dark ground


def cells_of(script: str) -> list[Cell]:
  parts = CELL.split(script)
  cells = []
  for mark, source in zip(parts[1::2], parts[2::2], strict=True):
    if mark:
      source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
    cells.append(Cell(bool(mark), source.strip()))
  return cells


def run(path: Path) -> list[Cell]:
  """The script's cells with what they printed and drew."""
  namespace = {"__name__": "__main__"}
  return [
    cell if cell.is_text else _run_cell(cell, namespace, path)
    for cell in cells_of(path.read_text())
  ]


def _run_cell(cell: Cell, namespace: dict[str, Any], path: Path) -> Cell:
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    value = _value_of(cell.source, namespace, path)
  figure = getattr(value, "figure", value)
  if not hasattr(figure, "savefig"):
    text = printed.getvalue() + ("" if value is None else f"{value!r}\n")
    return cell._replace(printed=text)
  light = _svg(figure)
  with mock.patch.object(plots, "_LIGHT", plots._DARK):  # the same cell on the other ground
    value = _value_of(cell.source, namespace, path)
  return cell._replace(printed=printed.getvalue(), figures=(light, _svg(value.figure)))


def _value_of(source: str, namespace: dict[str, Any], path: Path) -> Any:
  """Of the last line if that is an expression, as in a notebook."""
  tree = ast.parse(source, str(path))
  last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
  exec(compile(tree, str(path), "exec"), namespace)
  if last is not None:
    return eval(compile(ast.Expression(last.value), str(path), "eval"), namespace)
  return None


def _svg(figure: Any) -> str:
  buffer = io.StringIO()
  figure.savefig(buffer, format="svg", facecolor=figure.get_facecolor(), bbox_inches="tight")
  pyplot.close(figure)
  return buffer.getvalue()


def page_of(name: str, cells: list[Cell]) -> tuple[str, dict[str, str]]:
  """Markdown, and the figures that it shows by file name."""
  lines, files = [], {}
  for i, cell in enumerate(cells):
    if cell.is_text:
      lines += [cell.source, ""]
      if i == 0:
        lines += [f"[Notebook]({name}.ipynb) · [Script]({name}.py)", ""]
      continue
    lines += ["```python", cell.source, "```", ""]
    if cell.printed:
      lines += [
        '<div class="output" markdown>',
        "```text",
        cell.printed.rstrip(),
        "```",
        "</div>",
        "",
      ]
    for suffix, svg in zip(("", "-dark"), cell.figures, strict=False):
      file = f"{name}-{i}{suffix}.svg"
      files[file] = svg
      ground = "only-dark" if suffix else "only-light"
      lines += [f"![What the cell above draws]({file}){{ .{ground} }}"]
    lines.append("")
  return "\n".join(lines), files


def notebook_of(cells: list[Cell]) -> str:
  return json.dumps(
    {
      "cells": [_notebook_cell(i, cell) for i, cell in enumerate(cells)],
      "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
      },
      "nbformat": 4,
      "nbformat_minor": 5,
    },
    indent=1,
  )


def _notebook_cell(i: int, cell: Cell) -> dict[str, Any]:
  common = {"id": f"cell-{i}", "metadata": {}, "source": cell.source.splitlines(keepends=True)}
  if cell.is_text:
    return {"cell_type": "markdown", **common}
  outputs = []
  if cell.printed:
    text = cell.printed.splitlines(keepends=True)
    outputs.append({"output_type": "stream", "name": "stdout", "text": text})
  for svg in cell.figures[:1]:
    data = {"image/svg+xml": svg.splitlines(keepends=True)}
    outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
  return {"cell_type": "code", "execution_count": None, "outputs": outputs, **common}


def on_files(files: Files, config: MkDocsConfig) -> Files:
  for path in sorted(FOLDER.glob("*.py")):
    name = path.stem
    LOG.info(f"Running the tutorial {name}")
    cells = run(path)
    page, figures = page_of(name, cells)
    made = {f"{name}.md": page, f"{name}.ipynb": notebook_of(cells)} | figures
    for file, content in made.items():
      files.append(File.generated(config, f"tutorials/{file}", content=content))
  return files
