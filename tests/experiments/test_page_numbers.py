"""Numbers that pages take from kept results: each text is made from the result's file again.

A digit that changes in a file, or on a page, fails.
"""

import functools

import pytest
from scipy import stats

from experiments.measures.statistics import holm, mean_and_error, paired_difference, sign_flip_p
from experiments.which_rho import FIXED
from tests.experiments.accuracy_claims import (
  adamw_rows,
  cheap_rows,
  fashion_rows,
  prose,
  tuned_rows,
)
from tests.experiments.kept import (
  ADAMW,
  CHEAP,
  CHOOSING,
  FASHION,
  FLATNESS,
  FORGETTING,
  IRE,
  README,
  ROOT,
  SAM,
  SPEED_UPS,
  TUNED,
  TUNED_AT,
  WORDS,
  gain,
  kept,
  lines,
  number,
  p_text,
  paired,
  row_of,
  with_error,
)


def word_rows():
  tables = kept(f"{WORDS}/fine-tuned/results.json")["tables"]["0.001"]
  labels = {
    "adamw": "AdamW",
    "ire": "AdamW with IRE",
    "weight_average": "SWA over the last quarter",
    "late_sam": "SAM in the last quarter of the steps",
    "rst": "SAM on half of the steps (`rst`)",
    "functional_sam:ascent=adam": "Functional SAM",
    "sam": "SAM",
  }
  by_method = lambda key: {row["method"]: row for row in tables[key]}
  before, rise = by_method("first_before_32"), by_method("forgetting_32")
  own = lambda row, key: with_error(row[key], row[key + "_error"], 3)
  for method, label in labels.items():
    one, other = before[method], rise[method]
    added = "" if method == "adamw" else gain(one, 3)
    texts = label, own(one, "first_before_32"), added, own(other, "forgetting_32")
    yield from lines(FORGETTING, [texts])
  yield FORGETTING, f"smaller rise but IRE's (p = {p_text(rise['ire']['p_holm'])[:3]}"
  forgets = -rise["sam"]["difference"] / rise["adamw"]["forgetting_32"]
  yield FORGETTING, f"{100 * forgets:.0f} % less at 0.3 M params"
  late, second = by_method("first_after_32")["late_sam"], by_method("second_after_32")["late_sam"]
  yield FORGETTING, f"ends {gain(late, 3)[1:]} ahead of AdamW"
  worst = max(row["p_holm"] for row in tables["first_before_32"] if row["p_holm"])
  yield FORGETTING, f"significant (p = {p_text(worst)}"
  yield FORGETTING, f"on the first corpus (p = .{100 * late['p_holm']:.0f})"
  rho = kept(f"{WORDS}/pretrained/results.json")["chosen"]["sam"]["method"]["rho"]
  yield FORGETTING, f"chose `rho` {rho:.2f}"
  yield FORGETTING, f"{gain(second, 3)[1:]} behind on the second"
  runs = kept(f"{WORDS}/fine-tuned/results.json")["runs"]
  values = lambda method, key: [run[key] for run in runs[method]]
  damage = lambda m: paired_difference(values(m, "first_before_4"), values(m, "first_before_32"))
  (adamw, error), (sam, _) = damage("adamw"), damage("sam")
  yield FORGETTING, f"AdamW loses {with_error(adamw, error, 3)}"
  yield FLATNESS, f"{100 * (1 - sam / adamw):.0f} % less at 0.3 M params"
  functional, plain = (values(m, "first_before_32") for m in ("functional_sam:ascent=adam", "sam"))
  said = with_error(*paired_difference(functional, plain), 3)
  added = gain(before["functional_sam:ascent=adam"], 3)
  yield FORGETTING, f"{said} nats to SAM at equal gradients (p = .008), {added} to AdamW"
  adamw = kept("2026-11-26-ire-over-sizes/96-600/results.json")["runs"]["adamw"]
  ire = kept(f"{WORDS}/pretrained/results.json")["runs"]["ire"]
  lead = with_error(*paired(ire, adamw, "test_loss"), 3)
  yield FORGETTING, f"lead shrinks to {lead} against"
  yield IRE, f"{gain(before['ire'], 3)} nats to an AdamW of three trials; {lead} to one"


def noise_rows():
  noise = kept("2026-11-21-lookbehind-noise/noise.json")
  at = [("additive", 0.0), ("additive", 0.04), ("additive", 0.1)]
  at += [("multiplicative", 0.3), ("multiplicative", 0.5)]
  values = lambda method, kind, strength: [
    run[kind]["mean"][noise["strengths"][kind].index(strength)] for run in noise["runs"][method]
  ]
  labels = {
    "sgd": "SGD",
    "sam": "SAM",
    "lookbehind": "Lookbehind, 2 ascent steps",
    "lookbehind:ascent_steps=5": "Lookbehind, 5 ascent steps",
  }
  for method, label in labels.items():
    cells = (with_error(*mean_and_error(values(method, *where))) for where in at)
    yield from lines(FLATNESS, [(label, *cells)])
  strongest = (values(method, "additive", 0.1) for method in ("lookbehind", "sam"))
  said = with_error(*paired_difference(*strongest), 1, "+")
  yield FLATNESS, f"2 ascent steps: {said} points under the strongest noise"
  yield CHOOSING, f"{said} points over `sam` under strong noise"


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


def lifelong_rows():
  result = kept("2026-11-21-lookbehind-lifelong/replay-one-base/results.json")
  tables, runs = result["tables"], result["runs"]
  own = lambda row, key: with_error(row[key], row[key + "_error"])
  labels = "SGD", "SAM", "Lookbehind"
  for label, known, lost in zip(
    labels, tables["average_accuracy"], tables["forgetting"], strict=True
  ):
    cells = own(known, "average_accuracy"), own(lost, "forgetting")
    yield from lines(FORGETTING, [(label, *cells, "" if label == "SGD" else gain(lost))])
  forgotten = paired(runs["lookbehind:rho=0.1"], runs["sam"], "forgetting")
  yield (
    FORGETTING,
    f"{gain(tables['forgetting'][2])} points to SGD, {with_error(*forgotten)} to SAM",
  )


TWENTY, RATES = "2026-11-29-ire-twenty-bytes", ("tuned", "at-a-quarter")


def ire_rows():
  sizes = {48: "0.1 M", 96: "0.3 M", 192: "1 M"}
  tables = {w: kept(f"2026-11-26-ire-over-sizes/{w}-400/results.json")["table"] for w in sizes}
  ps = dict(zip(sizes, holm(table[1]["p"] for table in tables.values()), strict=True))
  for width, params in sizes.items():
    rows = kept(f"2026-11-26-ire-over-sizes/speed_up-{width}.json")["rows"]
    losses = [with_error(row["loss"], row["loss_error"], 4) for row in rows]
    up = with_error(rows[-1]["speed_up"], rows[-1]["speed_up_error"], 2)
    p = p_text(ps[width]) if ps[width] < 0.1 else f"{ps[width]:.2f}".lstrip("0")
    yield (
      IRE,
      f"| {params} | {' | '.join(losses)} | {p} | {up} | {number(rows[-1]['in_gradients'], 2)} |",
    )
  ups = [number(row["speed_up"], 2) for row in SPEED_UPS]
  yield IRE, f"{ups[0]}, {ups[1]} and {ups[2]} times, each ± 0.02"
  yield IRE, f"AdamW needs {ups[0]} and {ups[1]} times the steps"
  yield IRE, f"only 0.3 M gains, {number(SPEED_UPS[1]['in_gradients'], 2)} times"
  tuned, quarter = (row_of(f"{TWENTY}/{name}/speed_up.json", "ire") for name in RATES)
  up, error, paid = tuned["speed_up"], tuned["speed_up_error"], tuned["steps"] / tuned["gradients"]
  interval = lambda row: stats.t.interval(
    0.95, row["n"] - 1, row["speed_up"], row["speed_up_error"]
  )
  ends = lambda row: "{:.2f} to {:.2f}".format(*interval(row))
  yield IRE, f"{with_error(up, error, 2)} (95 %: {ends(tuned)})"
  runs = lambda *at: next(iter(kept("/".join((TWENTY, *at, "results.json")))["runs"].values()))
  by_seed = lambda *of: [a["test_loss"] - b["test_loss"] for a, b in zip(*of, strict=True)]
  best, slow = runs("1660"), runs("at-a-quarter", "ire")
  pairs = (runs("ire"), best), (slow, runs("at-a-quarter", "1660"))
  p, _ = holm(sign_flip_p(by_seed(*pair)) for pair in pairs)
  said = f"{with_error(up, error, 2)} times the steps (p = {p_text(p)})"
  yield IRE, f"{said} and {with_error(up * paid, error * paid, 2)} times the gradients"
  said = with_error(quarter["speed_up"], quarter["speed_up_error"], 2)
  yield IRE, f"{said} times the steps ({ends(quarter)})"
  yield IRE, f"1,660 steps; {said} at a quarter of the best rate"
  yield IRE, f"ends {with_error(*mean_and_error(by_seed(slow, best)), 3)} below that IRE"
  yield README, f"in longer runs of a fourth {100 * (1 - 1 / up):.0f} % of the steps"
  more = [row["gradients"] / row["steps"] - 1 for row in SPEED_UPS]
  yield IRE, f"{100 * more[0]:.1f} % more gradients"
  llama = row_of("2026-11-21-llama-ire/speed_up.json", "ire")
  said = with_error(llama["speed_up"], llama["speed_up_error"], 2)
  yield IRE, f"{said} times fewer steps, {number(llama['in_gradients'], 2)} in gradients"
  runs = [kept(f"{TUNED}/800/{m}/results.json")["runs"][m] for m in ("ire", "sgd")]
  beside = with_error(*paired(*runs, "test_accuracy"), 1, "+")
  by_seed = [a["test_accuracy"] - b["test_accuracy"] for a, b in zip(*runs, strict=True)]
  beside += f" to SGD's own 800 gradients (p = {sign_flip_p(by_seed):.2f}".replace("0.", ".", 1)
  best = gain(row_of(TUNED_AT.format(800), "ire", 800))
  yield IRE, f"{best} to the best SGD; {beside}"
  accuracies = lambda amount, m: kept(f"{TUNED}/{amount}/{m}/results.json")["runs"][m]
  pairs = [[accuracies(amount, m) for m in ("sam_ire", "sam")] for amount in (400, 800)]
  added = [with_error(*paired(*pair, "test_accuracy"), 1, "+") for pair in pairs]
  yield IRE, f"tuned alike: {' and '.join(added)} at 400 and 800 gradients"
  own = " and ".join(gain(row_of(TUNED_AT.format(amount), "ire_rho")) for amount in (400, 800))
  yield IRE, f"is in no paper: {own} to the best SGD at 400 and 800 gradients"


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
    adamw_rows,
    cheap_rows,
    fashion_rows,
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
    (adamw_rows, ADAMW, "sam"),
    (prose, TUNED_AT.format(800), "sam"),
    (cheap_rows, CHEAP, "rst:probability=0.25"),
    (fashion_rows, f"{FASHION}/frontier.json", "sam"),
    (ire_rows, f"{TWENTY}/at-a-quarter/speed_up.json", "ire"),
  ],
)
def test_a_changed_digit_is_seen(monkeypatch, claims, path, method):
  row = row_of(path, method)
  key = "speed_up" if "speed_up" in row else "difference"
  monkeypatch.setitem(row, key, row[key] + 0.1)
  assert any(" ".join(text.split()) not in words_of(page) for page, text in claims())
