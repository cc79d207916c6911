"""The report of weight noise: tables and a figure of accuracy."""

from pathlib import Path

import numpy as np

from experiments.config import files
from experiments.measures import statistics
from experiments.measures.noise import KINDS, NUMBERS
from experiments.measures.score import ACCURACY
from experiments.plots import noise, style
from experiments.reports import page
from experiments.reports.section import NOTHING, Section

FORMULAS = {"additive": "w + s N(0, 1)", "multiplicative": "w (1 + s N(0, 1))"}


def section(directory: Path) -> Section:
  """Draws noise.png, if weight noise was measured."""
  if not (directory / NUMBERS).exists():
    return NOTHING
  found = files.read_json(directory / NUMBERS)
  style.save_all({"noise": lambda theme: figure(found, theme)}, directory)
  note = caption(found)
  html, tables = ["<h2>Weight noise</h2>"], []
  for kind in KINDS:
    header = (f"{kind}:", *(f"{strength:g}" for strength in found["strengths"][kind]))
    rows = table(found, kind)
    html.append(f'<div class="wide">{page.html_table(header, rows)}</div>')
    narrow = [[cell.replace(" ± ", "\n± ") for cell in row] for row in rows]
    tables.append(page.terminal_table(header, narrow, note if kind == list(KINDS)[-1] else ""))
  html += [f'<p class="small">{note}</p>', page.picture(directory, "noise")]
  return Section(html, tables)


def caption(found: dict) -> str:
  options, seeds = found["options"], _seeds(found)
  examples = options["examples"]
  of = f"on the first {examples:,} test examples" if examples else "on the test set"
  text = (
    f"Accuracy in % {of}, mean of {options['draws']} draws; additive: {FORMULAS['additive']},"
    f" multiplicative: {FORMULAS['multiplicative']}, on every weight w."
  )
  if len(found["runs"]) > 1 or seeds > 1:
    text += (
      f" Mean ± standard error over {seeds} seed{'s' if seeds > 1 else ''}; minus"
      f" {found['reference']}: paired, runs of a seed share the draws."
    )
  return text


def table(found: dict, kind: str) -> list[list[str]]:
  """Two rows a method: the accuracies, and below them their differences or percentiles."""
  reference = found["reference"]
  rows = []
  for method, runs in found["runs"].items():
    means_RxS, reference_RxS = (_curves(found, m, kind, "mean") for m in (method, reference))
    rows.append(
      [
        style.label_of(method),
        *(_text(*statistics.mean_and_error(column)) for column in means_RxS.T),
      ]
    )
    if method != reference:
      pairs = zip(means_RxS.T, reference_RxS.T, strict=True)
      differences = [statistics.paired_difference(own, other) for own, other in pairs]
      rows.append([f"  minus {reference}", *(_text(*each, sign="+") for each in differences)])
    elif len(runs) == len(found["runs"]) == 1:
      for bound, percentile in (("low", "10th"), ("high", "90th")):
        rows.append([f"  {percentile} percentile", *map(_text, runs[0][kind][bound])])
  return rows


def figure(found: dict, theme: dict[str, str]):
  bounds = "mean", "low", "high"
  shown = [
    noise.Panel(
      f"{kind}: {FORMULAS[kind]}",
      "strength s",
      found["strengths"][kind],
      {
        method: tuple(_curves(found, method, kind, bound).mean(axis=0) for bound in bounds)
        for method in found["runs"]
      },
    )
    for kind in KINDS
  ]
  seeds = _seeds(found)
  over = f" and {seeds} seeds" if seeds > 1 else ""
  texts = (
    f"{found['name']}: test accuracy under Gaussian weight noise",
    f"Lines: means over {found['options']['draws']} draws{over}. Bands: 80 % of a run's draws.",
  )
  return noise.panels(shown, texts, theme, found["reference"])


def _text(mean: float | None, error: float | None = None, sign: str = "") -> str:
  return "-" if mean is None else ACCURACY.text(mean, error, sign)


def _seeds(found: dict) -> int:
  return len(found["runs"][found["reference"]])


def _curves(found: dict, method: str, kind: str, bound: str) -> np.ndarray:
  """Of shape (runs, S)."""
  return np.array([run[kind][bound] for run in found["runs"][method]])
