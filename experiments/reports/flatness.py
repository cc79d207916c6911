"""The sharpness of a comparison's runs: a table, figures, and correlations with accuracy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparisons import table
from experiments.config import files
from experiments.measures import flatness
from experiments.measures.correlations import spearman_by_chance
from experiments.measures.score import ACCURACY, Score, score_of_table
from experiments.plots import flatness as flatness_figures
from experiments.plots import landscapes, style
from experiments.reports import page
from experiments.reports.section import NOTHING, Section

COLUMNS = (
  "worst\ncase",
  "adaptive",
  "average",
  "top\neigenvalue",
  "trace",
)


def columns(score: Score) -> tuple[str, ...]:
  name, unit = score.label.split(", ")
  return "method", name.replace(" ", "\n") + f",\n{unit}", *COLUMNS


def cells(row: dict, score: Score = ACCURACY) -> list[str]:
  """A row as the texts under ``columns(score)``."""
  digits = {
    "loss_increase": 3,
    "adaptive_increase": 3,
    "average_increase": 3,
    "top_eigenvalue": 1,
    "trace": 0,
  }
  return [
    row["method"],
    page.number(row[score.key], row[score.key + "_error"], digits=score.digits),
    *(page.number(row[key], row[key + "_error"], digits=digits[key]) for key in digits),
  ]


def agreement(rows: list[dict], score: Score = ACCURACY) -> str:
  """The rank correlation of every measure with the score, as a sentence."""
  named = {
    "loss_increase": "the worst-case loss increase",
    "adaptive_increase": "the adaptive one",
    "average_increase": "the average one",
    "top_eigenvalue": "the top eigenvalue",
    "trace": "the trace",
  }
  correlations = [
    f"{named[key]} " + f"{value:+.2f}".replace("-", "\u2212")
    for key, value in flatness.rank_correlations(rows, score).items()
    if value is not None
  ]
  if not correlations:
    return "Too few methods, or losses that are not finite: no correlations."
  return (
    f"Rank correlation (Spearman's, over {len(rows)} methods) of {score.label.split(',')[0]},"
    f" {score.better} being better, with"
    f" flatness by {', by '.join(correlations)}. At +1 the flatter minimum always is the better one. Of"
    f" {len(rows)} methods, chance alone exceeds ±{spearman_by_chance(len(rows)):.2f} in 5 % of cases."
  )


def caption(options: dict[str, Any]) -> str:
  examples = options.get("examples")
  part = f" Of the set the first {examples:,} examples are measured." if examples else ""
  return (
    "Means over seeds. Worst case: under SAM's perturbation, L(w + rho g/|g|) - L(w) with rho ="
    f" {options['rho']}, mean over batches of the training set. Adaptive: the same in a ball that"
    f" scales with the weights (eta 0, rho {options['adaptive_rho']}), so that the scale of layers does"
    " not matter. Average: the loss's mean increase under Gaussian noise of standard deviation"
    f" {options['sigma']} on every weight, 8 draws. Top eigenvalue (12 Lanczos products) and trace (8"
    f" probes) of the training loss's Hessian. The last three on {flatness.SECOND_ORDER_BATCHES} batches"
    f" of the training set, wrong labels included.{part}"
  )


def figures(rows: list[dict], found: dict[str, Any], score: Score) -> dict[str, Callable]:
  runs = dict.fromkeys(row["method"] for row in rows)
  drawn = {
    "flatness": lambda theme: flatness_figures.flatness(
      {"table": rows, "runs": runs}, flatness.MEASURES, theme, score
    )
  }
  texts = (
    "The training loss around the params",
    "Along two filter-normalised random directions, of the first seed. Common levels.",
  )
  if found["landscapes"]:
    drawn["landscapes"] = lambda theme: landscapes.contours(
      {method: np.array(losses) for method, losses in found["landscapes"].items()},
      found["options"]["span"],
      texts,
      theme,
    )
  return drawn


def section(directory: Path) -> Section:
  """Draws flatness.png and landscapes.png, if sharpness was measured."""
  path = directory / flatness.NUMBERS
  if not path.exists() or not (directory / "results.json").exists():
    return NOTHING
  found, results = files.read_json(path), files.read_json(directory / "results.json")
  together = {
    method: [run | flat for run, flat in zip(runs, found["runs"][method], strict=True)]
    for method, runs in results["runs"].items()
  }
  first = next(iter(together))
  score = score_of_table(results["table"])
  rows = table.summarise(
    together, key=score.key, reference=first, with_error=tuple(flatness.MEASURES), means=()
  )
  drawn = figures(rows, found, score)
  style.save_all(drawn, directory)
  html = [
    "<h2>How flat</h2>",
    f"<p>{agreement(rows, score)}</p>",
    f'<div class="wide">{page.html_table(columns(score), [cells(row, score) for row in rows])}</div>',
    f'<p class="small">{caption(found["options"])}</p>',
    *(page.picture(directory, name) for name in drawn),
  ]
  means = [[cell.split(" ±")[0] for cell in cells(row, score)] for row in rows]
  return Section(html, [page.terminal_table(columns(score), means, agreement(rows, score))])
