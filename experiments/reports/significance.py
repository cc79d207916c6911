"""What differences from the reference are worth: p-values, intervals, and verdicts in words."""

from collections.abc import Sequence
from typing import Any

from experiments.measures import statistics
from experiments.measures.score import Score
from experiments.plots import style
from experiments.reports import page

COLUMN = "p,\nHolm"
INTERVAL = "95 %\ninterval"
TEST_SET = "test set,\n±"


def cell(row: dict[str, Any]) -> str:
  """The corrected p-value; a hyphen for the reference, and for results of older versions."""
  return p_text(row.get("p_holm"))


def p_text(p: float | None) -> str:
  return "-" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"


def caption(rows: Sequence[dict[str, Any]], which: str = "rows") -> str:
  """A sentence or two, to follow others; nothing where nothing was tested."""
  tested = [row for row in rows if row.get("p_holm") is not None]
  if not tested:
    return ""
  n, comparisons = max(row["n"] for row in tested), len(tested)
  exact = "exact " if n <= statistics.MOST_EXACT else ""
  said = (
    f" p: {exact}two-sided sign-flip test of these paired differences, corrected for the number of"
    f" {which} compared, {comparisons}, by Holm's method."
  )
  least = statistics.least_p(n, comparisons)
  if least > statistics.LEVEL:
    said += (
      f" With {n} seeds and {comparisons} comparison{'s' if comparisons > 1 else ''} it cannot be"
      f" below {least:.2g}, so that no difference here can be called significant."
    )
  return said


def verdicts(rows: Sequence[dict[str, Any]], score: Score) -> str:
  """Which rows are better than the reference, worse, and neither; nothing where none was tested."""
  sign = 1 if score.better == "higher" else -1
  found: dict[str, list[str]] = {"better": [], "worse": [], "neither": []}
  for row in rows:
    if row.get("p_holm") is not None:
      told = row["p_holm"] < statistics.LEVEL
      verdict = "neither" if not told else "better" if sign * row["difference"] > 0 else "worse"
      found[verdict].append(row.get("label", row["method"]))
  if not any(found.values()):
    return ""
  named = lambda verdict: "; ".join(found[verdict]) or "none"  # labels may have commas
  return (
    f"Better than {score.reference} by {score.label.split(',')[0]}, with p below"
    f" {statistics.LEVEL} after the correction: {named('better')}. Worse: {named('worse')}. Not told"
    f" apart from it: {named('neither')}."
  )


def section(rows: Sequence[dict[str, Any]], score: Score) -> list[str]:
  """A page's part with all that is known of each difference; nothing where none was tested."""
  tested = [row for row in rows if row.get("p_holm") is not None]
  if not tested:
    return []
  header = ["method", f"minus {score.reference},\npaired", "seeds,\n±", INTERVAL, "p", COLUMN]
  texts = [cells(row, score) for row in tested]
  said = (
    "Seeds: the standard error over seeds. Interval: of the mean over seeds, by 99,999 bootstrap"
    " resamples (percentiles), which is too narrow with few seeds. p: before the correction, and"
    " after it."
  )
  if any(row.get("difference_test_error") is not None for row in tested):
    header.insert(3, TEST_SET)
    for row, text in zip(tested, texts, strict=True):
      text.insert(3, page.number(row["difference_test_error"], digits=score.digits))
    said += (
      " Test set: the standard error over test examples, each averaged over seeds. More seeds lower"
      " the error over seeds alone."
    )
  return [
    f"<h2>Differences from {score.reference}: {score.label.split(',')[0]}</h2>",
    f"<p>{verdicts(rows, score)}</p>",
    f'<div class="wide">{page.html_table(header, texts)}</div>',
    f'<p class="small">{said}</p>',
  ]


def cells(row: dict[str, Any], score: Score) -> list[str]:
  number = lambda name: score.text(row[name], sign="+")
  return [
    style.label_of(row.get("label", row["method"])),
    number("difference"),
    score.text(row["difference_error"]),
    f"{number('difference_low')} to {number('difference_high')}",
    p_text(row["p"]),
    cell(row),
  ]
