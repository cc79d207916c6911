"""What the pages say of accuracy, made from the results' files again."""

from experiments.plots import front
from tests.experiments.kept import (
  ACCURACY,
  CHEAP,
  CHEAP_FORMS,
  CHOOSING,
  EVIDENCE,
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
)

TUNED_LABELS = {
  "sam": "`sam`",
  "asam": "`asam`",
  "rst:probability=0.5": "`rst`, p = 1/2",
  "g_rst": "`g_rst`, p = 1/2",
  "sala:sync_period=5": "`sala`, k = 5",
  "lookbehind": "`lookbehind`, k = 2",
  "sam_ire": "`sam` with `ire`",
  "ire_rho": "`ire(rho)`",
  "partial_sam:share=0.25,rho=0.2": "SAM, a quarter of the batch for the ascent",
  "ae_sam:rho=0.2": "`ae_sam`",
  "periodic_sam:interval=4,rho=0.2": "SAM on every 4th step",
  "late_sam:start=0.75,rho=0.2": "SAM in the last quarter of the steps",
  "looksam:rho=0.2": "`looksam`, every 5th step",
  "momentum_sam": "`momentum_sam`",
  "weight_average": "`weight_average` over the last quarter",
  "lookahead": "`lookahead`",
  "ire": "`ire()`",
}

OPEN = {  # what was not told apart from the base
  "late_sam:start=0.75,rho=0.2": "SAM in the last quarter",
  "momentum_sam": "`momentum_sam`",
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
      if amount == 400:
        cells += ["" if keeps is None else p_text(keeps)]
      else:
        assert keeps in (None, 1)  # as the page says of all
    found.append(cells)
  yield from lines(ACCURACY, found)
  ps = {
    (row["method"], amount): row["p_holm"]
    for amount in (400, 800)
    for row in kept(TUNED_AT.format(amount))["rows"]
    if row["p_holm"] is not None
  }
  shown = [p for p in ps.values() if p < 0.05]
  yield ACCURACY, f"p ≤ {p_text(max(shown))} for each method's difference"
  said = [
    f"{p:.2f}"[1:] + f" for {OPEN[method]} of {amount}"
    for (method, amount), p in ps.items()
    if p >= 0.05
  ]
  yield ACCURACY, f"but {' and '.join(said)}"
  over_images = [
    row["difference_test_error"]
    for amount in (400, 800)
    for row in kept(TUNED_AT.format(amount))["rows"]
    if row["p_holm"] is not None
  ]
  yield ACCURACY, f"an error of {min(over_images):.1f} to {max(over_images):.1f},"


def cheap_rows():
  older = {"sala:sync_period=2": "SALA of k = 2", "rst:probability=0.25": "RST 1/4"}
  said = " and ".join(f"{label} ({gain(row_of(CHEAP, m))})" for m, label in older.items())
  yield CHEAP_FORMS, said
  late = [row_of(CHEAP, f"late_sam:start={start}") for start in (0.9, 0.5)]
  said = f"last tenth {gain(late[0])}, last half {gain(late[1])}, SAM {gain(row_of(CHEAP, 'sam'))}"
  yield CHEAP_FORMS, said
  at = lambda method: [row_of(TUNED_AT.format(amount), method) for amount in (400, 800)]
  both = lambda method, form=gain: " and ".join(map(form, at(method)))
  rare = {
    "ae_sam:rho=0.2": "AE-SAM",
    "looksam:rho=0.2": "LookSAM",
    "momentum_sam": "Momentum-SAM",
    "periodic_sam:interval=4": "every 4th step",
  }
  said = ", ".join(f"{label} {both(method)}" for method, label in rare.items())
  yield CHEAP_FORMS, f"400 and 800 gradients: {said}"
  keeps = lambda method: f"p = {both(method, lambda row: p_text(row['keeps_p']))}"
  rst, sala = "rst:probability=0.5", "sala:sync_period=5"
  yield CHEAP_FORMS, f"{both(rst)} to the best SGD at 400 and 800 gradients, SAM {both('sam')};"
  yield CHEAP_FORMS, keeps(rst)
  yield CHEAP_FORMS, f"k = 5: {both(sala)}; {keeps(sala)}"
  free = kept(f"{TUNED}/400/momentum_sam/results.json")["chosen"]["momentum_sam"]["method"]["rho"]
  shorter = gain(at("momentum_sam")[0])
  yield README, f"added {shorter.lstrip('+')} at 400 gradients, not seen at 800"
  yield CHOOSING, f"{shorter} points with 400 gradients (`rho` {free:.1f}), not seen with 800"
  yield CHEAP_FORMS, f"last quarter: {both('late_sam:start=0.75')}"
  yield CHEAP_FORMS, f"G-RST: {both('g_rst')}; {keeps('g_rst')}"
  worst = max(row["p_holm"] for row in kept(CHEAP)["rows"] if row["p_holm"])
  yield CHEAP_FORMS, f"(p = {p_text(worst)} each)"
  stages = kept("2026-11-21-sala-stages/results.json")["table"]
  paid = [row["gradients"] / row["steps"] for row in stages if "sala" in row["method"]]
  yield CHEAP_FORMS, f"{100 * (min(paid) - 1):.0f} to {100 * (max(paid) - 1):.0f} %, by period"


def prose():
  best = SGD(200)
  again = row_of(TUNED_AT.format(800), "sam", 800)
  old = {row["method"]: row for row in kept("2026-11-26-demo-ten-seeds/results.json")["table"]}
  gained = best["test_accuracy"] - old["sgd"]["test_accuracy"]
  seemed = old["sam"]["difference"]
  yield README, f"the best SGD is at {number(best['test_accuracy'], 1)} %"
  yield README, f"{gained:.0f} of the {seemed:.0f} points that `sam` seemed to add"
  added = gain(again).removeprefix("+")
  yield README, f"added {added} points to SGD where labels were wrong"
  yield from (
    (CHOOSING, f"[holds](evidence/accuracy.md) on plain SGD: +{added} points"),
    (EVIDENCE, f"on plain SGD where labels are wrong: +{added} points"),
    (ACCURACY, f"`sam` adds {added} points, and eleven"),
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
  ends = (
    number(round(x, 1) + 0.0, 1, "+")  # never −0.0
    for x in (min(drawn[1]), max(drawn[1]), front.best(front.PANELS[1], "adamw"))
  )
  yield README, "between {} and {}, the best AdamW at {}".format(*ends)
  yield INDEX, f"add {min(gains):.1f} to {max(gains):.1f} points"
  gaining = [
    row
    for amount in (400, 800)
    for row in kept(TUNED_AT.format(amount))["rows"]
    if row["p"] and row["p_holm"] < 0.05 < row["difference"]
  ]
  assert len({row["method"] for row in gaining}) == 12  # `sam` and the page's eleven
  added_by = [row["difference"] for row in gaining]
  yield ACCURACY, f"eleven more forms add {min(added_by):.1f} to {max(added_by):.1f};"
  saved = f"{100 * (1 - 1 / SPEED_UPS[1]['speed_up']):.0f} %"
  yield README, f"saved {saved} of the steps of a Llama of 0.3 M params"
  yield CHOOSING, f"[{saved} fewer steps](evidence/ire.md) at 0.3 M params"
  yield EVIDENCE, f"{saved} fewer steps **hold** at one"
  at = lambda method: [row_of(TUNED_AT.format(amount), method) for amount in (400, 800)]
  rows = (
    *at("rst:probability=0.5"),
    *at("sala:sync_period=5"),
    row_of(CHEAP, "rst:probability=0.25"),
  )
  added = [row["difference"] for row in rows]
  yield README, f"they added {min(added):.1f} to {max(added):.1f}."
