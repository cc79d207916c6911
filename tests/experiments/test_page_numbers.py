"""Numbers that pages take from kept results: each text is made from the result's file again.

A digit that changes in a file, or on a page, fails.
"""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.plots import front

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
TUNED = "2026-11-29-tuned-alike"
WORDS, FASHION = "2026-11-26-language-models-that-forget", "2026-11-26-fashion-mnist"
CHOOSING, SPENDING = "docs/choosing.md", "docs/spending.md"
README, PAPERS, INDEX = "README.md", "experiments/README.md", "docs/index.md"


@functools.cache
def kept(path):
  return json.loads((RESULTS / path).read_text())


def number(x, digits, sign=""):
  return f"{x:{sign}.{digits}f}".replace("-", "\u2212")


def with_error(x, error, digits=1, sign=""):
  return f"{number(x, digits, sign)} ± {error:.{digits}f}"


def row_of(path, method, amount=None):
  """The row of a method, by its whole name or by its start where that is one row's alone."""
  found = [
    row
    for row in kept(path)["rows"]
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


TUNED_AT = TUNED + "/tuned-{}/frontier.json"
DEMO, CHEAP = f"{TUNED}/demo/frontier.json", f"{TUNED}/when-to-pay/frontier.json"
SGD = functools.partial(row_of, TUNED_AT.format(800), "sgd")
SPEED_UPS = [row_of(f"2026-11-26-ire-over-sizes/speed_up-{w}.json", "ire") for w in (48, 96, 192)]


TUNED_LABELS = {
  "sam": "`sam`",
  "rst:probability=0.5": "`rst`, p = 1/2",
  "sala:sync_period=5": "`sala`, k = 5",
  "lookbehind": "`lookbehind`, k = 2",
  "partial_sam:share=0.25,rho=0.2": "SAM, a quarter of the batch for the ascent",
  "late_sam:start=0.75,rho=0.2": "SAM in the last quarter of the steps",
  "weight_average": "`weight_average` over the last quarter",
  "lookahead": "`lookahead`",
  "ire": "`ire()`",
}


def tuned_rows():
  """The first table of Choosing, and what it says of the base and of the tests."""
  said = ", ".join(accuracy(SGD(amount)) for amount in (100, 200, 1600))
  yield CHOOSING, f"SGD reaches {said} %"
  for method, label in ({"sgd": "sgd"} | TUNED_LABELS).items():
    cells = [label]
    for amount in (400, 800):
      rows = kept(TUNED_AT.format(amount))["rows"]
      row = next((x for x in rows if (x["method"], x["amount"]) == (method, amount)), None)
      if row is None:
        cells += ["", "", ""]
      else:
        keeps = row.get("keeps_p")
        cells += [accuracy(row), gain(row), "" if keeps is None else p_text(keeps)]
    yield CHOOSING, " ".join(f"| {' | '.join(cells)} |".split())
  ps = {
    (row["method"], amount): row["p_holm"]
    for amount in (400, 800)
    for row in kept(TUNED_AT.format(amount))["rows"]
    if row["p_holm"] is not None
  }
  late = ps.pop(("late_sam:start=0.75,rho=0.2", 400))
  yield CHOOSING, f"p ≤ {p_text(max(ps.values()))} for each method's difference"
  yield CHOOSING, f"but .{late * 100:.0f} for SAM in the last quarter of 400"


def before_rows():
  """What Choosing says of the settings of before."""
  for method in ("asam", "g_rst", "sam_ire", "ire_rho"):
    label = {"sam_ire": "sam+ire", "ire_rho": "ire(rho)"}.get(method, method)
    yield CHOOSING, f"`{label}` {gain(row_of(DEMO, method)).partition(' ')[0]}"


CHEAP_LABELS = {
  "periodic_sam:interval=4": "`rst(sam(), every(4))`",
  "sala:sync_period=5": "`sala(base, sync_period=5)`",
  "looksam:rho=0.2": "`looksam(update_interval=5)`",
  "partial_sam:share=0.25": "SAM, a quarter of the batch for the ascent",
  "rst:probability=0.25": "`rst(sam(), 0.25)`",
  "ae_sam:rho=0.2": "`ae_sam(sam(), num_steps=400)`",
  "late_sam:start=0.5": "`rst(sam(), from_step(half of the steps))`",
  "rst:probability=0.5": "`rst(sam(), 0.5)`",
  "sam": "SAM",
}


def cheap_rows():
  for method, label in CHEAP_LABELS.items():
    row = row_of(CHEAP, method)
    paid = f"{row['gradients'] / row['steps']:.3g}"
    paid = {"1.26": "1.25", "1.51": "1.5"}.get(paid, paid)  # random: its expectation is given
    yield SPENDING, f"| {label} | {paid} | {gain(row).removeprefix('+')} |"
  below = (row_of(CHEAP, method) for method in ("periodic_sam:interval=10", "looksam:rho=0.2"))
  tenth, looksam = (gain(row).removeprefix("\u2212") for row in below)
  yield CHOOSING, f"every 10th step is {tenth} points below and `looksam` {looksam};"


def fashion_rows():
  labels = {
    "weight_average": "`weight_average` over the last quarter",
    "sala": "`sala`, k = 5",
    "rst:probability=0.25": "`rst`, p = 1/4",
    "late_sam:start=0.75": "SAM in the last quarter of the steps",
    "sam": "`sam`",
  }
  path = f"{FASHION}/frontier.json"
  row = kept(path)["rows"][0]
  yield CHOOSING, f"| 1,500 | sgd | {accuracy(row, 2)} | |"
  for method, label in labels.items():
    row = row_of(path, method)
    texts = f"{row['gradients']:,.0f}", label, accuracy(row, 2), gain(row, 2)
    yield CHOOSING, f"| {' | '.join(texts)} |"
  longer = kept(path)["rows"][-1]
  yield CHOOSING, f"| 3,000 | sgd for 3,000 steps | {accuracy(longer, 2)} | {gain(longer, 2)} |"


def word_rows():
  tables = kept(f"{WORDS}/fine-tuned/results.json")["tables"]["0.001"]
  labels = {
    "adamw": "AdamW",
    "ire": "AdamW with IRE",
    "late_sam": "SAM in the last quarter of the steps",
    "rst": "SAM on half of the steps (`rst`)",
    "functional_sam:ascent=adam": "Functional SAM",
    "sam": "SAM",
  }
  by_method = lambda key: {row["method"]: row for row in tables[key]}
  before, rise = by_method("first_before_32"), by_method("forgetting_32")
  for method, label in labels.items():
    one, other = before[method], rise[method]
    texts = [
      label,
      with_error(one["first_before_32"], one["first_before_32_error"], 3),
      "" if method == "adamw" else gain(one, 3),
      with_error(other["forgetting_32"], other["forgetting_32_error"], 3),
    ]
    yield CHOOSING, f"| {' | '.join(texts)} |".replace("|  |", "| |")
  yield CHOOSING, f"smaller rise but IRE's (p = {rise['ire']['p_holm']:.2f})".replace("0.", ".")
  adamw = kept("2026-11-26-ire-over-sizes/96-600/results.json")["runs"]["adamw"]
  ire = kept(f"{WORDS}/pretrained/results.json")["runs"]["ire"]
  lead = np.subtract(*([run["test_loss"] for run in runs] for runs in (ire, adamw)))
  error = np.std(lead, ddof=1) / np.sqrt(len(lead))
  yield CHOOSING, f"IRE's lead is {with_error(np.mean(lead), error, 3)}"


def prose():
  best = SGD(200)
  again = row_of(TUNED_AT.format(800), "sam", 800)
  old = kept("2026-11-26-demo-ten-seeds/results.json")["table"]
  old = {row["method"]: row for row in old}
  gained = best["test_accuracy"] - old["sgd"]["test_accuracy"]
  yield README, f"the best SGD is at {number(best['test_accuracy'], 1)} %"
  yield (
    README,
    f"{gained:.0f} of the {old['sam']['difference']:.0f} points that `sam` seemed to add",
  )
  worth = (
    f"that was worth {gained:.0f} points here, and `sam` {number(again['difference'], 1)} more"
  )
  yield CHOOSING, worth
  ire = row_of(TUNED_AT.format(800), "ire", 800)
  yield PAPERS, f"[{gain(ire)}](results/{TUNED}/README.md) to the best SGD"
  runs = [kept(f"{TUNED}/800/{m}/results.json")["runs"][m] for m in ("ire", "sgd")]
  same = np.subtract(*([run["test_accuracy"] for run in one] for one in runs))
  beside = with_error(np.mean(same), np.std(same, ddof=1) / np.sqrt(len(same)), 1, "+")
  yield CHOOSING, f"`ire()` is {beside} from SGD's own 800 gradients"
  yield PAPERS, f"{beside} to SGD of its 800 gradients"
  yield README, f"added {gain(again).removeprefix('+')} points where labels were wrong"
  drawn = [
    [row["difference"] for names in front.ROWS.values() if (row := front.row_of(panel, names))]
    for panel in front.PANELS
  ]
  gains = [x for x in drawn[0] if x > 0]
  yield README, f"{number(min(gains), 1, '+')} and {number(max(gains), 1, '+')} points"
  yield README, f"between {min(drawn[1]):.1f} and {max(drawn[1]):.1f}"
  yield INDEX, f"add {min(gains):.1f} to {max(gains):.1f} points"
  gains += [
    row["difference"]
    for row in kept(TUNED_AT.format(400))["rows"]
    if row["p"] and row["p_holm"] < 0.05 < row["difference"]
  ]
  yield CHOOSING, f"gain {min(gains):.1f} to {max(gains):.1f} points in the"
  saved = [100 * (1 - 1 / row["speed_up"]) for row in SPEED_UPS]
  gradients = max(100 * (1 - 1 / row["in_gradients"]) for row in SPEED_UPS)
  for page, text in (
    (
      README,
      "saved {:.0f} to {:.0f} % of the steps of small Llamas, and {:.0f} % of the gradients",
    ),
    (CHOOSING, "we measured {:.0f} to {:.0f} % fewer steps, and {:.0f} % fewer gradients at best"),
  ):
    yield page, text.format(min(saved), max(saved), gradients)
  ups, paid = ([number(row[key], 2) for row in SPEED_UPS] for key in ("speed_up", "in_gradients"))
  yield CHOOSING, f"AdamW needs {ups[0]}, {ups[1]} and {ups[2]} times"
  yield CHOOSING, f"it is {paid[0]}, {paid[1]} and {paid[2]} times"
  yield PAPERS, f"[{', '.join(ups)}](results/2026-11-26-ire-over-sizes/README.md)"
  yield PAPERS, f"in gradients {', '.join(paid)}"
  llama = row_of("2026-11-21-llama-ire/speed_up.json", "ire")
  said = with_error(llama["speed_up"], llama["speed_up_error"], 2)
  yield PAPERS, f"[{said}](results/2026-11-21-llama-ire/README.md) times fewer"
  yield PAPERS, f"{number(llama['in_gradients'], 2)} in gradients"
  yield PAPERS, f"wrong labels: [{gain(again)}](results/{TUNED}/README.md) points over the best SGD"
  yield PAPERS, f"({number(old['sam']['difference'], 1, '+')} over one tried at two rates)"
  at = lambda method: [row_of(TUNED_AT.format(amount), method) for amount in (400, 800)]
  sams, rsts, salas = at("sam"), at("rst:probability=0.5"), at("sala:sync_period=5")
  both = lambda rows, form: " and ".join(map(form, rows))
  for rows in (rsts, salas):
    yield PAPERS, both(rows, gain).replace(" and", f"](results/{TUNED}/README.md) and", 1)
    yield PAPERS, f"not .3 behind SAM: p = {both(rows, lambda row: p_text(row['keeps_p']))}"
  yield PAPERS, f"at 400 and 800 gradients, SAM {both(sams, gain)}"
  added = [row["difference"] for row in (*rsts, *salas)]
  yield README, f"they added {min(added):.1f} to {max(added):.1f}."
  late = [row_of(CHEAP, f"late_sam:start={start}") for start in (0.9, 0.5)]
  yield PAPERS, f"[{gain(late[0])}](results/{TUNED}/README.md) with the last tenth, {gain(late[1])}"
  yield PAPERS, f"with the last half, SAM {gain(row_of(CHEAP, 'sam'))}"
  fashion = f"{TUNED}/fashion-mnist/frontier.json"
  yield PAPERS, f"{gain(row_of(fashion, 'sam'), 2)} at equal gradients"


CLAIMS = [
  claim
  for claims in (tuned_rows, before_rows, cheap_rows, fashion_rows, word_rows, prose)
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
    (before_rows, DEMO, "asam"),
    (prose, TUNED_AT.format(800), "sam"),
    (cheap_rows, CHEAP, "rst:probability=0.25"),
    (fashion_rows, f"{FASHION}/frontier.json", "sam"),
  ],
)
def test_a_changed_digit_is_seen(monkeypatch, claims, path, method):
  row = row_of(path, method)
  monkeypatch.setitem(row, "difference", row["difference"] + 0.1)
  assert any(" ".join(text.split()) not in words_of(page) for page, text in claims())
