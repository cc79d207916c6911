"""The report of a lifelong comparison: a table, a figure and each method's accuracies by task."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.comparisons import lifelong
from experiments.measures.score import ACCURACY, Score
from experiments.plots import lifelong as figures
from experiments.plots import style
from experiments.reports import page, parts, significance

COLUMNS = (
  "method",
  *("average\naccuracy,\n%", "minus\n{reference},\npaired", significance.COLUMN),
  *("forgetting,\npoints", "minus\n{reference},\npaired", significance.COLUMN),
  *parts.PAID_COLUMNS,
)
SCORES = (
  ACCURACY._replace(key="average_accuracy", label="average accuracy, %"),
  Score("forgetting", "forgetting, points", 1, "lower", ACCURACY.reference),
)


def write(out: Path, console: Console) -> None:
  spec, compared = parts.read_spec(out, lifelong.LifelongComparison)
  results = parts.read_results(out, "lifelong")
  reference, config = compared.methods[0], compared.config
  memory = f"a memory of {compared.replay:,} examples" if compared.replay else "no replay"
  budget = f"{compared.tasks} tasks, {compared.amount:,} {compared.unit} each, {memory}"
  texts = (
    f"{config.name}: what is kept of earlier tasks",
    f"{budget}. Mean and standard error of {compared.seeds} seeds. Dashed: {reference.partition(':')[0]}.",
  )
  style.save_all({"lifelong": lambda theme: figures.kept_and_lost(results, texts, theme)}, out)
  header = [column.format(reference=reference) for column in COLUMNS]
  pairs = zip(*(results["tables"][key] for key in lifelong.MEASURES), strict=True)
  rows = [cells(kept, lost, reference) for kept, lost in pairs]
  caption = (
    "After the last task, over the classes of all. Average accuracy: the mean of the tasks'."
    " Forgetting: how far the earlier tasks are below their best. Mean ± standard error of n seeds."
    f" Minus {reference}: paired, runs of a seed share initial params, the tasks' classes and the"
    f" order of batches.{significance.caption(results['tables'][lifelong.MEASURES[0]], 'methods')}"
    f" Wall: steps alone. {parts.PEAK} No tuning here: the settings are the"
    " config's."
  )
  scores = [score._replace(reference=reference) for score in SCORES]
  found = [(results["tables"][score.key], score) for score in scores]
  verdicts = " ".join(significance.verdicts(*each) for each in found)
  body = [
    f"<p>{parts.setting(config)} Every method learns {budget}; a task starts from the params of"
    " the one before it, with a new optimizer state and learning-rate schedule.</p>",
    f'<div class="wide">{page.html_table(header, rows)}</div>',
    f'<p class="small">{caption}</p>',
    *(part for each in found for part in significance.section(*each)),
    page.picture(out, "lifelong"),
    "<h2>Accuracy on each task, %</h2>",
    *(accuracy_table(method, runs) for method, runs in results["runs"].items()),
    parts.settings_table(results["chosen"]),
    page.configuration(spec),
  ]
  page.write_page(out / "report.html", f"{config.name}: one task after another", body)
  console.print(page.terminal_table(header, rows, f"{verdicts} {caption}".strip(), columns=6))
  console.print(f"{out / 'report.html'} and figures are written")


def cells(kept: dict[str, Any], lost: dict[str, Any], reference: str) -> list[str]:
  """A method's rows of both tables as one."""
  texts = []
  for row, key in zip((kept, lost), lifelong.MEASURES, strict=True):
    difference = ACCURACY.text(row["difference"], row["difference_error"], sign="+")
    texts.append(ACCURACY.text(row[key], row[key + "_error"]))
    texts.append("-" if row["method"] == reference else difference)
    texts.append(significance.cell(row))
  return [style.label_of(kept["method"]), *texts, *parts.paid_cells(kept)]


def accuracy_table(method: str, runs: list[dict[str, Any]]) -> str:
  """Means over seeds: a row for each task learned, a column for each measured."""
  tasks = range(1, len(runs[0]["accuracy"]) + 1)
  rows = [
    [f"after {task}", *(f"{x:.1f}" for x in np.mean([r["accuracy"][task - 1] for r in runs], 0))]
    + [""] * (len(tasks) - task)
    for task in tasks
  ]
  return f'<div class="wide">{page.html_table([method, *(f"task {t}" for t in tasks)], rows)}</div>'
