"""The report of weight noise: tables and a figure of accuracy."""

from pathlib import Path

import numpy as np

from experiments.comparisons.table import summarise
from experiments.config import files
from experiments.measures.noise import KINDS, NUMBERS
from experiments.measures.score import ACCURACY
from experiments.plots import noise, style
from experiments.reports import page, paired
from experiments.reports.section import NOTHING, Section

FORMULAS = {"additive": "w + s N(0, 1)", "multiplicative": "w (1 + s N(0, 1))"}


def section(directory: Path) -> Section:
  """Draws noise.png, if weight noise was measured."""
  if not (directory / NUMBERS).exists():
    return NOTHING
  found = files.read_json(directory / NUMBERS)
  style.save_all({"noise": lambda theme: figure(found, theme)}, directory)
  note = caption(found) + paired.caption(
    {f"{kind} {i}": rows for kind in KINDS for i, rows in compared(found, kind).items()}
  )
  html, tables = ["<h2>Weight noise</h2>"], []
  for kind in KINDS:
    header = (f"{kind}:", *(f"{strength:g}" for strength in found["strengths"][kind]))
    rows = table(found, kind)
    html.append(f'<div class="wide">{page.html_table(header, rows)}</div>')
    tables.append(
      page.terminal_table(header, paired.narrow(rows), note if kind == list(KINDS)[-1] else "")
    )
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
  """The accuracies of every method, and below them how they differ from the reference's."""
  rows = paired.rows(compared(found, kind), ACCURACY, found["reference"])
  (first, *more), *others = found["runs"].values()
  if not more and not others:
    for bound, percentile in (("low", "10th"), ("high", "90th")):
      accuracies = [ACCURACY.text(x) for x in first[kind][bound]]
      rows.append([f"  {percentile} percentile", *accuracies])
  return rows


def compared(found: dict, kind: str) -> dict[str, list[dict]]:
  """The summary of all methods at each strength, by the strength's index."""
  runs = {
    method: [{str(i): x for i, x in enumerate(run[kind]["mean"])} for run in seeds]
    for method, seeds in found["runs"].items()
  }
  count = len(found["strengths"][kind])
  return {
    str(i): summarise(runs, key=str(i), reference=found["reference"], means=())
    for i in range(count)
  }


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


def _seeds(found: dict) -> int:
  return len(found["runs"][found["reference"]])


def _curves(found: dict, method: str, kind: str, bound: str) -> np.ndarray:
  """Of shape (runs, S)."""
  return np.array([run[kind][bound] for run in found["runs"][method]])
