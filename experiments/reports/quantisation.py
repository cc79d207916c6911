"""What the command quantise measured: a table and a figure of the damage that few bits do."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparisons.table import summarise
from experiments.config import files
from experiments.measures.quantisation import NUMBERS
from experiments.measures.score import ACCURACY, LOSS, Score
from experiments.plots import quantisation as figures
from experiments.plots import style
from experiments.reports import page, paired
from experiments.reports.section import NOTHING, Section


def section(directory: Path) -> Section:
  """Draws quantisation.png; nothing where nothing was measured."""
  if not (directory / NUMBERS).exists():
    return NOTHING
  found = files.read_json(directory / NUMBERS)
  score = ACCURACY if found["task"] == "classification" else LOSS
  style.save_all({"quantisation": lambda theme: figure(found, score, theme)}, directory)
  few = found["bits"][1:]
  header = ["method", "float32", *(f"{b} bits" for b in few), *(f"damage,\n{b} bits" for b in few)]
  tables = compared_tables(found, score)
  rows = paired.rows(tables, score, found["reference"])
  say = caption(found, score) + paired.caption(tables)
  html = [
    "<h2>Quantised weights</h2>",
    f'<div class="wide">{page.html_table(header, rows)}</div>',
    f'<p class="small">{say}</p>',
    page.picture(directory, "quantisation"),
  ]
  return Section(html, [page.terminal_table(header, paired.narrow(rows), say)])


def caption(found: dict[str, Any], score: Score) -> str:
  examples, seeds = found["options"]["examples"], len(found["runs"][found["reference"]])
  of = f"on the first {examples:,} test examples" if examples else "on the test set"
  name = score.label.partition(", ")[2]
  said = (
    f"{score.label[:1].upper()}{score.label[1:]}, {of}. Every kernel and embedding is rounded to"
    " nearest, symmetric around zero, with a scale for each output channel; vectors stay whole."
    f" Damage: what that costs against float32, in {'points' if name == '%' else name}."
  )
  if len(found["runs"]) > 1 or seeds > 1:
    said += (
      f" Mean ± standard error over {seeds} seed{'s' if seeds > 1 else ''}; minus"
      f" {found['reference']}: paired by seed."
    )
  return said


def with_damage(found: dict[str, Any], score: Score) -> dict[str, list[dict[str, Any]]]:
  """A row a run by method: ``at_B`` and ``damage_B`` for B bits."""
  name, sign = score.key.removeprefix("test_"), -1 if score.better == "higher" else 1
  whole, *few = found["bits"]

  def row(run):
    values = dict(zip(found["bits"], np.array(run[name], np.float64), strict=True))
    costs = {f"damage_{b}": files.finite(sign * (values[b] - values[whole])) for b in few}
    return {"seed": run["seed"]} | {f"at_{b}": files.finite(x) for b, x in values.items()} | costs

  return {method: [row(run) for run in runs] for method, runs in found["runs"].items()}


def compared_tables(found: dict[str, Any], score: Score) -> dict[str, list[dict[str, Any]]]:
  reference, runs = found["reference"], with_damage(found, score)
  keys = [f"at_{b}" for b in found["bits"]] + [f"damage_{b}" for b in found["bits"][1:]]
  return {key: summarise(runs, key=key, reference=reference, means=()) for key in keys}


def figure(found: dict[str, Any], score: Score, theme: dict[str, str]):
  runs, reference = with_damage(found, score), found["reference"]
  tables = {
    bits: summarise(runs, key=f"damage_{bits}", reference=reference, means=())
    for bits in found["bits"][1:]
  }
  seeds = len(found["runs"][reference])
  over = f" Mean and standard error of {seeds} seeds." if seeds > 1 else ""
  dashed = f" Dashed: {reference}." if len(runs) > 1 else ""
  texts = (
    f"{found['name']}: what quantised weights cost",
    f"Round to nearest, a scale a channel.{over}{dashed}",
  )
  name, _, unit = score.label.partition(", ")
  label = f"{name} {'lost' if score.better == 'higher' else 'added'}, {unit}"
  return figures.damage(tables, texts, label, theme)
