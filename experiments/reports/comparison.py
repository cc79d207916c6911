"""The report of a comparison: a table, figures, settings and what was measured afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.comparisons import equal_budgets, tuning
from experiments.measures.score import Score
from experiments.plots import curves as curve_figures
from experiments.plots import rankings, style
from experiments.reports import page, parts, significance

COLUMNS = (
  *("method", "{label}", "minus {reference},\npaired", significance.COLUMN),
  *parts.PAID_COLUMNS,
)


def write(out: Path, console: Console) -> None:
  spec, compared = parts.read_spec(out, equal_budgets.Comparison)
  results = parts.read_results(out, "compare")
  score = equal_budgets.score(compared)
  drawn = draw(compared, results, score) | parts.metrics_figure(
    results["own_metrics"],
    f"Means over {compared.seeds} seeds and each twentieth of the steps.",
  )
  style.save_all(drawn, out)
  header = [
    column.format(label=score.label.replace(", ", ",\n"), reference=score.reference)
    for column in COLUMNS
  ]
  table = results["table"]
  rows = [cells(row, score) for row in table]
  budget = f"{compared.amount:,} {compared.unit}"
  caption = (
    f"Mean ± standard error of n seeds. Minus {score.reference}: paired, runs of a seed share"
    f" initial params, wrong labels and the order of batches.{significance.caption(table, 'methods')}"
    f" Wall: steps alone. {parts.PEAK} {tuned(compared, results)}"
  )
  verdicts = significance.verdicts(table, score)
  console.print(page.terminal_table(header, rows, f"{verdicts} {caption}".strip(), columns=6))
  body = [
    f"<p>{parts.setting(compared.config)} Every run is given {budget}.</p>",
    f'<div class="wide">{page.html_table(header, rows)}</div>',
    f'<p class="small">{caption}</p>',
    *significance.section(table, score),
    *(page.picture(out, name) for name in drawn),
    *parts.sections(out, console),
    parts.settings_table(results["chosen"]),
    page.configuration(spec),
  ]
  page.write_page(out / "report.html", f"{compared.config.name}: equal {compared.unit}", body)
  console.print(f"{out / 'report.html'} and figures are written")


def tuned(compared: equal_budgets.Comparison, results: dict[str, Any]) -> str:
  """How the settings were chosen: how many were tried, and where the chosen one stands at an edge."""
  trials = {method: len(rows) for method, rows in results["trials"].items() if rows}
  if not trials:
    return "No tuning here: the settings are the config's."
  data = compared.config.data
  examples = "set" if data.set.task == "classification" else "windows, of documents that train too,"
  examples += " and right labels" if data.wrong_labels else ""
  counts = ", ".join(f"{n} of {style.label_of(method)}" for method, n in trials.items())
  edges = "; ".join(
    f"{style.label_of(method)}: {', '.join(said)}"
    for method, said in results.get("edges", {}).items()
    if said
  )
  return (
    f"Settings tried, and judged on {tuning.HELD_OUT:.0%} of the training {examples}: {counts}."
    f" Chosen at an edge of what was tried: {edges or 'none'}."
  )


def cells(row: dict[str, Any], score: Score) -> list[str]:
  own, difference = row[score.key], row["difference"]
  is_reference = row["method"] == score.reference or difference is None
  return [
    style.label_of(row["method"]),
    "diverged" if own is None else score.text(own, row[score.key + "_error"]),
    "-" if is_reference else score.text(difference, row["difference_error"], sign="+"),
    significance.cell(row),
    *parts.paid_cells(row),
  ]


def draw(compared: equal_budgets.Comparison, results: dict, score: Score) -> dict[str, Callable]:
  name, what = compared.config.name, score.label.split(",")[0]
  ranking = (
    f"{name}: {what}",
    f"{compared.amount:,} {compared.unit} a run. Mean and standard error of {compared.seeds} seeds"
    " (ticks), paired by seed.",
  )
  curves = (
    f"{name}: {what} against the gradients paid",
    f"Means over seeds, and where they end. Dashed: {score.reference}. Grey: the others.",
  )
  return {
    "ranking": lambda theme: rankings.ranking(results, score, ranking, theme),
    "curves": lambda theme: curve_figures.curves(results, score, curves, theme),
  }
