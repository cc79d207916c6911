"""The report of how flatness ranks runs: a table, a figure, and what the columns mean."""

from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.comparisons.correlations import NUMBERS
from experiments.config import files
from experiments.measures.correlations import KINDS, LEVEL, SPEARMAN, TAU
from experiments.measures.flatness import MEASURES
from experiments.measures.score import by_key
from experiments.plots import correlations, style
from experiments.reports import page
from experiments.reports.flatness import caption as measures_caption

HEADER = "measure", *(label.replace(" ", "\n", 1) for label in KINDS.values())
SHORT = {
  "loss_increase": "worst case",
  "adaptive_increase": "adaptive worst case",
  "average_increase": "average",
  "top_eigenvalue": "top eigenvalue",
  "trace": "trace",
}


def write(out: Path, console: Console) -> None:
  """The page, the figure and the tables, from correlations.json."""
  found = files.read_json(out / NUMBERS)
  style.save_all({"correlations": lambda theme: correlations.forest(found, theme)}, out)
  body = [
    f"<p>{said(found)}</p>",
    page.picture(out, "correlations"),
    *(part for target in correlations.targets(found) for part in section(found, target)),
    f'<p class="small">{explained(found)}</p>',
    f'<p class="small">{measures_caption(found["options"])}</p>',
    page.configuration(found["config"]),
  ]
  title = f"{found['config']['name']}: is flatter better?"
  page.write_page(out / "report.html", title, body)
  for target, label in correlations.targets(found).items():
    taus = [[cell.split(" (")[0] for cell in row] for row in cells(found, target)]
    console.print(
      page.terminal_table(
        HEADER, taus, f"Kendall's tau of flatness with {label}, Spearman's rho under it"
      )
    )
  console.print(said(found))
  console.print(f"{out / 'report.html'} and {correlations.FILE} are written")


def section(found: dict[str, Any], target: str) -> list[str]:
  label = correlations.targets(found)[target]
  return [
    f"<h2>With {label}</h2>",
    f'<div class="wide">{page.html_table(HEADER, cells(found, target))}</div>',
  ]


def cells(found: dict[str, Any], target: str) -> list[list[str]]:
  """Two rows a measure: Kendall's tau, and Spearman's rho under it."""
  rows = {(row["measure"], row["kind"]): row for row in found["rows"] if row["with"] == target}
  texts = lambda name, keys: [text(rows[name, kind], keys) for kind in KINDS]
  return [
    line
    for name in MEASURES
    for line in ([SHORT[name], *texts(name, TAU)], ["  Spearman", *texts(name, SPEARMAN)])
  ]


def text(row: dict[str, Any], keys: tuple[str, str, str] = TAU) -> str:
  """The correlation, and its interval in parentheses."""
  number = lambda x: page.number(x, sign="+", digits=2).replace("-", "\u2212")
  seen, low, high = (row.get(key) for key in keys)  # older files have no Spearman
  if seen is None:
    return "-"
  return number(seen) if low is None else f"{number(seen)} ({number(low)} to {number(high)})"


def said(found: dict[str, Any]) -> str:
  """What can be told from chance, in sentences."""
  parts = []
  for target, label in correlations.targets(found).items():
    for kind, kind_label in KINDS.items():
      rows = [row for row in found["rows"] if (row["with"], row["kind"]) == (target, kind)]
      told = [row for row in rows if row["low"] is not None and row["low"] * row["high"] > 0]
      names = [f"{SHORT[row['measure']]} ({text(row).split(' ')[0]})" for row in told]
      parts.append(f"With {label}, over {kind_label}: {', '.join(names) or 'no measure'}.")
  return (
    "Measures whose interval leaves out 0, so that which of two is flatter says something about"
    f" which is better. {' '.join(parts)}"
  )


def explained(found: dict[str, Any]) -> str:
  score, runs = by_key(found["score"]), found["runs"]
  better = f"{score.better} {score.label.split(',')[0]}"
  most = max(row["methods"] for row in found["rows"])
  return (
    "Kendall's tau-b, +1 where of any two the flatter one is the better one, and 0 where flatness"
    f" says nothing; under it Spearman's rho, which is the correlation of ranks. {runs} runs of"
    f" {most} methods. Methods' means: what differs between methods. Seeds of a method: the"
    " correlation over the seeds of one method, and the mean of these over methods, so that nothing"
    " of it is a difference between methods. All runs: both together. In parentheses:"
    f" {LEVEL:.0%} of the resamples of a bootstrap that draws whole methods, with all their runs;"
    " with ten methods or fewer such intervals are too narrow rather than too wide, they are not"
    " corrected for the number of measures, and what the methods' seeds have in common, such as"
    f" initial params and wrong labels, is not drawn again. Better: {better}, or a"
    " smaller generalisation gap, which is test loss minus training loss, the latter with the"
    " labels, wrong ones included, that the run was trained on."
  )
