"""Numbers that pages take from kept results: each text is made from the result's file again.

A digit that changes in a file, or on a page, fails.
"""

import functools

import pytest

from experiments.measures.statistics import mean_and_error
from experiments.which_rho import FIXED
from tests.experiments.accuracy_claims import (
  cheap_rows,
  prose,
  tuned_rows,
)
from tests.experiments.fashion_claims import (
  FORMS,
  FREE,
  ON_ADAMW,
  ON_SGD,
  VIT,
  fashion_rows,
  free_rows,
  muon_form_rows,
)
from tests.experiments.kept import (
  CHEAP,
  FLATNESS,
  ROOT,
  SAM,
  TUNED,
  TUNED_AT,
  kept,
  lines,
  number,
  row_of,
  with_error,
)
from tests.experiments.language_claims import (
  FRONTIER,
  TWENTY,
  free_of_cost_rows,
  frontier_rows,
  ire_rows,
  word_rows,
)
from tests.experiments.lookbehind_claims import lifelong_rows, noise_rows
from tests.experiments.smoothing_claims import smoothing_rows


def flatness_rows():
  labels = {
    "trace": "trace",
    "adaptive_increase": "adaptive worst case",
    "average_increase": "average case",
    "top_eigenvalue": "top eigenvalue",
    "loss_increase": "worst case",
  }
  rows = kept("2026-11-26-flatness-over-all-runs/correlations.json")["rows"]
  found = {(row["measure"], row["kind"]): row for row in rows if row["with"] == "test_accuracy"}
  signed = lambda row, key: number(row[key], 2, "+")
  cell = lambda row: f"{signed(row, 'tau')} [{signed(row, 'low')}, {signed(row, 'high')}]"
  for measure, label in labels.items():
    cells = (cell(found[measure, kind]) for kind in ("methods", "seeds"))
    yield from lines(FLATNESS, [(label, *cells)])
  ends = lambda kind: " to ".join(
    signed(pick((row for (_, k), row in found.items() if k == kind), key=lambda r: r["tau"]), "tau")
    for pick in (min, max)
  )
  yield FLATNESS, f"Kendall's tau {ends('methods')} between methods, {ends('seeds')} between seeds"
  runs = kept("2026-11-26-demo-ten-seeds/flatness.json")["runs"]
  traces = {m: mean_and_error([run["trace"] for run in of])[0] for m, of in runs.items()}
  sharp = [traces.pop(method) for method in ("sgd", "lookahead", "ire")]
  flat = f"{min(traces.values()):.0f} to {max(traces.values()):.0f} for eight methods"
  best = kept(f"{TUNED}/200/sgd/flatness.json")["runs"]["sgd"]
  said = with_error(*mean_and_error([run["trace"] for run in best]), 0)
  both = f"{min(sharp):.0f} to {max(sharp):.0f} for SGD, Lookahead and IRE alone"
  yield FLATNESS, f"trace {flat}, {both}, {said} for the best SGD"
  assert all(
    run[measure] < other[measure]  # in all ten seeds
    for method, of in runs.items()
    if method in traces
    for run, other in zip(of, best, strict=True)
    for measure in labels
  )


def which_rho_rows():
  found = kept("2026-11-29-which-rho/which_rho.json")["gains"]
  fitted = {
    row["task"]: found["rho"][row["task"]] for row in found["mean"]["tasks"] if not row["aside"]
  }
  two = lambda x: f"{x:.2g}"
  ends = lambda values: f"{two(min(values))} to {two(max(values))}"
  cells = ends(fitted.values()), number(found["ratio_of_rho"], 1), number(found["mean"]["cost"], 1)
  yield from lines(SAM, [("`rho` itself", *cells)])
  labels = {
    ("change", 1.0): "change of the gradient, relative",
    ("angle", 1.0): "1 \u2212 cosine of both gradients",
    ("relative_rise", 1.0): "rise of the loss, relative",
    ("rho_over_params", 1.0): "`rho` over the params' norm",
    ("rho_over_step", 0.1): "`rho` over a step's norm, at 10 %",
  }
  rows = {(row["quantity"], row["share"]): row for row in found["rows"] if row["run"] == "base"}
  for where, label in labels.items():
    row = rows[where]
    over = ends([row["values"][task] for task in fitted])
    yield from lines(SAM, [(label, over, two(row["ratio"]), number(row["cost"], 1))])
  yield SAM, f"{FIXED} for all loses {number(found['fixed']['cost'], 1)}"
  assert min(row["cost"] for row in rows.values()) > 1  # none is of use
  assert {len(found["rho"]) - len(fitted), len(fitted)} == {1, 6}
  widths = [high / low for low, high in (found["width"][task] for task in fitted)]
  assert (min(widths), max(widths)) == (1, 4)
  every = kept("2026-11-29-which-rho/which_rho.json")["inner"]["rho"]
  sgd, adamw = (
    "{}, {} and {}".format(*(every[task] for task in tasks))
    for tasks in (
      ("fashion", "digits", "mnist-800"),
      ("fashion-adamw", "digits-adamw", "mnist-adamw"),
    )
  )
  yield SAM, f"On the same data SGD chose {sgd}, AdamW {adamw}"


CLAIMS = [
  claim
  for claims in (
    tuned_rows,
    smoothing_rows,
    cheap_rows,
    fashion_rows,
    free_rows,
    muon_form_rows,
    frontier_rows,
    free_of_cost_rows,
    word_rows,
    noise_rows,
    flatness_rows,
    lifelong_rows,
    ire_rows,
    which_rho_rows,
    prose,
  )
  for claim in claims()
]


@functools.cache
def words_of(page):
  return " ".join((ROOT / page).read_text().split())


@pytest.mark.parametrize(("page", "text"), CLAIMS)
def test_the_page_says_what_the_result_holds(page, text):
  assert " ".join(text.split()) in words_of(page)


@pytest.mark.parametrize(
  ("claims", "path", "method"),
  [
    (tuned_rows, TUNED_AT.format(400), "sam"),
    (tuned_rows, TUNED_AT.format(800), "rst:probability=0.5"),
    (tuned_rows, TUNED_AT.format(800), "asam"),
    (prose, TUNED_AT.format(800), "sam"),
    (cheap_rows, CHEAP, "rst:probability=0.25"),
    (fashion_rows, ON_SGD, "weight_average:start=0.5"),
    (fashion_rows, ON_ADAMW, "sam:rho=0.05"),
    (fashion_rows, f"{VIT}/on-adamw/frontier.json", "sam:rho=0.1"),
    (muon_form_rows, FORMS, "rst:rho=0.4"),
    (free_rows, f"{FREE}/on-muon/frontier.json", "momentum_sam:rho=0.075"),
    (ire_rows, f"{TWENTY}/at-a-quarter/speed_up.json", "ire"),
    (frontier_rows, f"{FRONTIER}/frontier/forgetting.json", "sam:rho=0.05"),
  ],
)
def test_a_changed_digit_is_seen(monkeypatch, claims, path, method):
  row = row_of(path, method)
  key = "speed_up" if "speed_up" in row else "difference"
  monkeypatch.setitem(row, key, row[key] + 0.1)
  assert any(" ".join(text.split()) not in words_of(page) for page, text in claims())
