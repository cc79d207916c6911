"""Kept results, and their numbers in the form that pages have them."""

import functools
import json
from pathlib import Path

from experiments.measures.statistics import paired_difference

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
TUNED = "2026-11-29-tuned-alike"
WORDS = "2026-11-26-language-models-that-forget"
README, INDEX, CHOOSING = "README.md", "docs/index.md", "docs/choosing.md"
SAM, WEIGHT_AVERAGE = "docs/methods/sam.md", "docs/methods/weight_average.md"
EVIDENCE, ACCURACY, CHEAP_FORMS, IRE, FLATNESS, FORGETTING = (
  f"docs/evidence/{name}.md"
  for name in ("index", "accuracy", "cheap_forms", "ire", "flatness", "forgetting")
)


@functools.cache
def kept(path):
  return json.loads((RESULTS / path).read_text())


def number(x, digits, sign=""):
  return f"{x:{sign}.{digits}f}".replace("-", "\u2212")


def with_error(x, error, digits=1, sign=""):
  return f"{number(x, digits, sign)} ± {error:.{digits}f}"


def row_of(path, method, amount=None):
  """The row of a method, by its whole name or by its start where that is one row's alone."""
  result = kept(path)
  found = [
    row
    for row in (result["rows"] if "rows" in result else result["tables"]["gradients"])
    if (row["method"] == method or row["method"].startswith(method + ","))
    and amount in (None, row.get("amount"))
  ]
  (row,) = found
  return row


def accuracy(row, digits=1):
  return with_error(row["test_accuracy"], row["test_accuracy_error"], digits)


def gain(row, digits=1):
  return with_error(row["difference"], row["difference_error"], digits, "+")


def p_text(p):
  return f"{p:.3f}".lstrip("0") if p < 0.9995 else "1"


def lines(page, rows):
  """Each row of a table, as the page's source has it."""
  for row in rows:
    yield page, " ".join(f"| {' | '.join(row)} |".split())


TUNED_AT = TUNED + "/tuned-{}/frontier.json"
CHEAP = f"{TUNED}/when-to-pay/frontier.json"
SGD = functools.partial(row_of, TUNED_AT.format(800), "sgd")
SPEED_UPS = [row_of(f"2026-11-26-ire-over-sizes/speed_up-{w}.json", "ire") for w in (48, 96, 192)]


def paired(runs, reference, key):
  return paired_difference(*([run[key] for run in each] for each in (runs, reference)))
