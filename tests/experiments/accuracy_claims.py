"""What the pages say of accuracy, made from the results' files again."""

from experiments.plots import front
from tests.experiments.kept import (
  ACCURACY,
  CHEAP,
  CHEAP_FORMS,
  CHOOSING,
  DEMO,
  EVIDENCE,
  FASHION,
  INDEX,
  README,
  SGD,
  SPEED_UPS,
  TUNED,
  TUNED_AT,
  accuracy,
  gain,
  kept,
  lines,
  number,
  p_text,
  row_of,
  row_of_table,
)

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
  """What was tuned alike, and what is said of the base and of the tests."""
  said = ", ".join(accuracy(SGD(amount)) for amount in (100, 200, 1600))
  yield ACCURACY, f"SGD reaches {said} %"
  found = []
  for method, label in ({"sgd": "sgd"} | TUNED_LABELS).items():
    cells = [label]
    for amount in (400, 800):
      rows = kept(TUNED_AT.format(amount))["rows"]
      row = next((x for x in rows if (x["method"], x["amount"]) == (method, amount)), None)
      keeps = row and row.get("keeps_p")
      cells += [accuracy(row), gain(row)] if row else ["", ""]
      cells += ["" if keeps is None else p_text(keeps)]
    found.append(cells)
  yield from lines(ACCURACY, found)
  ps = {
    (row["method"], amount): row["p_holm"]
    for amount in (400, 800)
    for row in kept(TUNED_AT.format(amount))["rows"]
    if row["p_holm"] is not None
  }
  late = ps.pop(("late_sam:start=0.75,rho=0.2", 400))
  yield ACCURACY, f"p ≤ {p_text(max(ps.values()))} for each method's difference"
  yield ACCURACY, f"but .{late * 100:.0f} for SAM in the last quarter of 400"
  over_images = [
    row["difference_test_error"]
    for amount in (400, 800)
    for row in kept(TUNED_AT.format(amount))["rows"]
    if row["p_holm"] is not None
  ]
  yield ACCURACY, f"an error of {min(over_images):.1f} to {max(over_images):.1f},"
  for method in ("asam", "g_rst", "sam_ire", "ire_rho"):
    label = {"sam_ire": "sam+ire", "ire_rho": "ire(rho)"}.get(method, method)
    yield ACCURACY, f"`{label}` {gain(row_of(DEMO, method)).partition(' ')[0]}"


CHEAP_LABELS = {
  "sam": "SAM",
  "rst:probability=0.5": "RST, 1/2",
  "g_rst:probability=0.5": "G-RST, 1/2",
  "sala:sync_period=2": "SALA, k = 2",
  "late_sam:start=0.5": "SAM in the last half",
  "ae_sam:rho=0.2": "AE-SAM",
  "rst:probability=0.25": "RST, 1/4",
  "g_rst:probability=0.25": "G-RST, 1/4",
  "partial_sam:share=0.25": "SAM, a quarter of the batch for the ascent",
  "late_sam:start=0.75": "SAM in the last quarter",
  "periodic_sam:interval=4": "SAM every 4th step",
  "sala:sync_period=5": "SALA, k = 5",
  "looksam:rho=0.2": "LookSAM, every 5th step",
  "periodic_sam:interval=10": "SAM every 10th step",
  "late_sam:start=0.9": "SAM in the last tenth",
  "weight_average": "SWA over the last quarter",
  "momentum_sam:learning_rate=0.05": "Momentum-SAM",
  "lookahead": "Lookahead",
}


def cheap_rows():
  rows = []
  for method, label in CHEAP_LABELS.items():
    row = row_of(CHEAP, method)
    paid = f"{row['gradients'] / row['steps']:.3g}"
    paid = {"1.26": "1.25", "1.51": "1.5"}.get(paid, paid)  # random: its expectation is given
    rows.append((label, paid, gain(row)))
  yield from lines(CHEAP_FORMS, rows)
  late = [row_of(CHEAP, f"late_sam:start={start}") for start in (0.9, 0.5)]
  said = f"last tenth {gain(late[0])}, last half {gain(late[1])}, SAM {gain(row_of(CHEAP, 'sam'))}"
  yield CHEAP_FORMS, said
  at = lambda method: [row_of(TUNED_AT.format(amount), method) for amount in (400, 800)]
  both = lambda method, form=gain: " and ".join(map(form, at(method)))
  keeps = lambda method: f"p = {both(method, lambda row: p_text(row['keeps_p']))}"
  rst, sala = "rst:probability=0.5", "sala:sync_period=5"
  yield CHEAP_FORMS, f"{both(rst)} to the best SGD at 400 and 800 gradients, SAM {both('sam')};"
  yield CHEAP_FORMS, keeps(rst)
  yield CHEAP_FORMS, f"k = 5: {both(sala)}; {keeps(sala)}"
  yield CHEAP_FORMS, f"last quarter: {both('late_sam:start=0.75')}"
  g_rst = row_of(DEMO, "g_rst")
  yield CHEAP_FORMS, f"G-RST at older settings: {gain(g_rst)}, p = {p_text(g_rst['keeps_p'])}"
  outer = "2026-11-29-outer-momentum/results.json"
  more, most = (row_of_table(outer, f"lookahead:slow_momentum={x}") for x in (0.5, 0.9))
  yield (
    CHEAP_FORMS,
    f"adds {gain(more)[1:]} points to plain Lookahead (p = {p_text(more['p_holm'])}",
  )
  yield CHEAP_FORMS, f"0.9 takes {gain(most)[1:]}"
  chances = [
    row_of_table("2026-11-21-rst-probability/results.json", f"rst:probability={p}")
    for p in (0.25, 0.5, 0.75)
  ]
  low, middle, high = (number(row["test_accuracy"], 1) for row in chances)
  assert low == middle
  yield CHEAP_FORMS, f"1/4 and 1/2 end at {low} %, 3/4 at {high}"
  sams = [number(x["test_accuracy"], 1) for x in sams_of_then()]
  yield CHEAP_FORMS, f"SAM between {min(sams)} and {max(sams)}"
  worst = max(row["p_holm"] for row in kept(CHEAP)["rows"] if row["p_holm"])
  yield CHEAP_FORMS, f"Each p is {p_text(worst)}"
  stages = kept("2026-11-21-sala-stages/results.json")["table"]
  paid = [row["gradients"] / row["steps"] for row in stages if "sala" in row["method"]]
  yield CHEAP_FORMS, f"second stage, {max(paid):.2f} gradients a step"
  yield CHEAP_FORMS, f"of training, {min(paid):.2f} gradients"
  yield CHEAP_FORMS, f"{100 * (min(paid) - 1):.0f} to {100 * (max(paid) - 1):.0f} %, by period"


def sams_of_then():
  """SAM at equal steps beside RST: as probability 1, tuned by itself, and at the demo's setting."""
  beside = "2026-11-21-rst-probability"
  yield row_of_table(f"{beside}/results.json", "rst:probability=1")
  for name in ("sam-tuned", "sam-demo"):
    yield row_of_table(f"{beside}/{name}/results.json", "sam")


def fashion_rows():
  labels = {
    "weight_average": "`weight_average` over the last quarter",
    "sala": "`sala`, k = 5",
    "rst:probability=0.25": "`rst`, p = 1/4",
    "partial_sam:share=0.25": "SAM, a quarter of the batch for the ascent",
    "late_sam:start=0.75": "SAM in the last quarter of the steps",
    "ae_sam": "`ae_sam`",
    "late_sam:start=0.5": "SAM in the last half of the steps",
    "rst:probability=0.5": "`rst`, p = 1/2",
    "sam": "`sam`",
  }
  path = f"{FASHION}/frontier.json"
  rows = [(label, row_of(path, method)) for method, label in labels.items()]
  rows.append(("sgd for 3,000 steps", kept(path)["rows"][-1]))
  first = kept(path)["rows"][0]
  worst = max(row["p_holm"] for label, row in rows if "weight" not in label)
  yield ACCURACY, f"but that of `weight_average` are significant (p = {p_text(worst)})"
  yield ACCURACY, f"| 1,500 | sgd | {accuracy(first, 2)} | |"
  yield from lines(
    ACCURACY,
    ((f"{row['gradients']:,.0f}", label, accuracy(row, 2), gain(row, 2)) for label, row in rows),
  )


def prose():
  best = SGD(200)
  again = row_of(TUNED_AT.format(800), "sam", 800)
  old = {row["method"]: row for row in kept("2026-11-26-demo-ten-seeds/results.json")["table"]}
  gained = best["test_accuracy"] - old["sgd"]["test_accuracy"]
  seemed = old["sam"]["difference"]
  yield README, f"the best SGD is at {number(best['test_accuracy'], 1)} %"
  yield README, f"{gained:.0f} of the {seemed:.0f} points that `sam` seemed to add"
  yield ACCURACY, f"SAM seemed to gain {seemed:.0f} points"
  yield CHOOSING, f"worth {gained:.0f} points"
  added = gain(again).removeprefix("+")
  yield README, f"added {added} points where labels were wrong"
  yield from (
    (CHOOSING, f"+{added} points over the best SGD"),
    (EVIDENCE, f"where labels are wrong: +{added} points"),
    (ACCURACY, f"`sam` adds {added} points to the best SGD"),
    (ACCURACY, f"+{added} points: small Mixer"),
  )
  rates = (
    kept(f"{TUNED}/800/{method}/results.json")["chosen"][method]["learning_rate"]
    for method in ("sam", "sgd")
  )
  yield CHOOSING, f"SAM's best rate is {next(rates) / next(rates):.0f} times SGD's"
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
  yield ACCURACY, f"{min(gains):.1f} to {max(gains):.1f}."
  saved = [100 * (1 - 1 / row["speed_up"]) for row in SPEED_UPS]
  gradients = max(100 * (1 - 1 / row["in_gradients"]) for row in SPEED_UPS)
  steps = f"{min(saved):.0f} to {max(saved):.0f} %"
  yield (
    README,
    f"saved {steps} of the steps of small Llamas, and {gradients:.0f} % of the gradients",
  )
  yield CHOOSING, f"[{steps} fewer steps](evidence/ire.md), {gradients:.0f} % fewer gradients"
  yield EVIDENCE, f"{steps} fewer steps"
  at = lambda method: [row_of(TUNED_AT.format(amount), method) for amount in (400, 800)]
  added = [row["difference"] for row in (*at("rst:probability=0.5"), *at("sala:sync_period=5"))]
  yield README, f"they added {min(added):.1f} to {max(added):.1f}."
