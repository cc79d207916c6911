"""What the pages say of language models, made from the results' files again."""

from scipy import stats

from experiments.comparisons.forgetting import curve, distance
from experiments.measures.statistics import holm, mean_and_error, paired_difference, sign_flip_p
from tests.experiments.kept import (
  CHEAP_FORMS,
  CHOOSING,
  FLATNESS,
  FORGETTING,
  IRE,
  README,
  SPEED_UPS,
  TUNED,
  TUNED_AT,
  WEIGHT_AVERAGE,
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

FRONTIER = "2026-11-29-forgetting-frontier"
TWENTY, RATES = "2026-11-29-ire-twenty-bytes", ("tuned", "at-a-quarter")
ANNEALED = {  # the same methods with the short anneal
  "late_sam": "late_sam:start=0.8,schedule=wsd",
  "sam:rho=0.05": "sam:rho=0.05,schedule=wsd",
  "rst": "rst:schedule=wsd",
  "ire": "ire:kappa=3,schedule=wsd",
  "sam:rho=0.1": "sam:rho=0.1,schedule=wsd",
}
FREE = "2026-11-29-one-gradient-a-step/llama/{}/results.json"
EMA = "weight_average:start=0,decay=0.99,schedule=wsd"
FREE_METHODS = {  # directory and method, in the order of the page's columns
  "adamw": [
    ("momentum-sam", "momentum_sam:schedule=wsd"),
    ("adamw", "weight_average:start=0.8,schedule=constant"),
    ("lookahead", "lookahead:schedule=wsd"),
    ("lookahead", "lookahead:slow_momentum=0.5,schedule=wsd"),
  ],
  "muon": [
    ("muon-momentum-sam", "momentum_sam:schedule=wsd"),
    ("muon-mean", "weight_average:start=0.8,schedule=constant"),
    ("muon-lookahead", "lookahead:schedule=wsd"),
    ("muon-lookahead-momentum", "lookahead:slow_momentum=0.5,schedule=wsd"),
  ],
}
PRETRAINED_BY = {
  "ire": "AdamW with IRE",
  "weight_average": "SWA over the last quarter",
  "late_sam": "SAM in the last quarter; in the short anneal",
  "rst": "SAM on half of the steps (`rst`)",
  "sam:rho=0.05": "SAM",
  "sam:rho=0.1": "SAM, `rho` 0.1",
}


def frontier_rows():
  """What is kept of the old corpus at equal losses on the new one, and at one rate."""
  name = lambda row: row["method"].removesuffix(", 1660 steps")
  tables = lambda which: {
    key: {name(row): row for row in rows}
    for key, rows in kept(f"{FRONTIER}/{which}/forgetting.json")["tables"].items()
  }
  by_method, annealed = tables("frontier"), tables("frontier-wsd")
  steps, gradients = by_method["steps"], by_method["gradients"]
  tuned = lambda directory, method: kept(f"{FRONTIER}/{directory}-tuned/results.json")["runs"][
    method
  ]
  for method, label in PRETRAINED_BY.items():
    cosine = [gain(by_method[key][method], 3) for key in ("steps", "gradients")]
    short = (annealed[key].get(ANNEALED.get(method)) for key in ("steps", "gradients"))
    cells = [gain(row, 3) if row else "" for row in short]
    yield from lines(FORGETTING, [(label, *cosine, *cells)])
  rows = *steps.values(), *gradients.values()
  yield FORGETTING, f"p ≤ {p_text(max(row['p_holm'] for row in rows))} for each with cosine"
  sam = [gain(annealed[key][ANNEALED["sam:rho=0.05"]], 3) for key in ("gradients", "steps")]
  yield FORGETTING, f"SAM {sam[0]} nats at equal gradients, {sam[1]} at equal steps"
  short, long = tuned("1660", "adamw"), tuned("3320", "adamw")
  curves = lambda runs: [curve([x for x in runs if x["seed"] == seed]) for seed in range(8)]
  apart = lambda *of: [distance(*pair) for pair in zip(*map(curves, of), strict=True)]
  rate = "adamw:learning_rate=0.008"
  anneal = apart(tuned("1660", f"{rate},schedule=wsd"), tuned("1660", rate))
  said = f"{with_error(*mean_and_error(anneal), 3)}, p = {p_text(sign_flip_p(anneal))}"
  yield FORGETTING, f"the same rate with cosine ({said};"
  rise = lambda runs: sum(run["forgetting_32"] for run in runs if run["learning_rate"] == 0.001)
  less = lambda runs: f"{100 * (1 - rise(runs) / rise(short)):.0f} %"
  sam = less(tuned("methods", "sam:rho=0.05"))
  yield FORGETTING, f"SAM forgets {sam} less, and AdamW of as many gradients {less(long)},"
  losses = [
    [run["test_loss"] for run in of]
    for of in (
      kept(f"{FRONTIER}/1660/results.json")["runs"]["adamw:learning_rate=0.008"],
      kept(f"{TWENTY}/ire/results.json")["runs"]["ire"],
    )
  ]
  yield IRE, f"lead is left ({with_error(*paired_difference(*losses), 3)} nats)"
  adamw = kept(f"{FRONTIER}/1660/results.json")["runs"]["adamw:learning_rate=0.008,schedule=wsd"]
  ahead = paired_difference(losses[1], [run["test_loss"] for run in adamw])
  yield IRE, f"anneal is {with_error(*ahead, 3)} ahead of IRE"
  damage = lambda directory, method: [
    run["first_before_4"] - run["first_before_32"]
    for run in tuned(directory, method)
    if run["learning_rate"] == 0.001
  ]
  sam = damage("wsd-one-trial", "sam:rho=0.05,schedule=wsd")
  long = damage("rival-3320", "adamw:schedule=wsd")
  yield FLATNESS, f"{100 * (1 - sum(sam) / sum(long)):.0f} % at 0.08 M, 20 bytes a param"


def free_of_cost_rows():
  """What costs no extra gradient, on AdamW and beside it."""
  losses = lambda path, method: [run["test_loss"] for run in kept(path)["runs"][method]]
  adamw = lambda method: losses(f"{FRONTIER}/1660/results.json", method)
  free = lambda directory, method: losses(FREE.format(directory), method)
  tuned, strongest = (free(directory, "muon") for directory in ("muon", "muon-008"))
  bases = {"adamw": adamw("adamw:learning_rate=0.008,schedule=wsd"), "muon": strongest}
  against = lambda runs, base: [a - b for a, b in zip(runs, base, strict=True)]
  least = 1
  averages = {"adamw": "ema", "muon": "muon-ema"}
  for base, methods in FREE_METHODS.items():
    found = [against(free(*where), bases[base]) for where in methods]
    average = against(free(averages[base], EMA), bases[base])
    least = min(least, *holm(map(sign_flip_p, [*found, average])))
    averages[base] = with_error(*mean_and_error(average), 3, "+")
    cells = [with_error(*mean_and_error(by_seed), 3, "+") for by_seed in found]
    alone = with_error(*mean_and_error(bases[base]), 3)
    yield from lines(CHEAP_FORMS, [(f"{base}, Llama", alone, *cells)])
  yield CHEAP_FORMS, f"short anneal: p ≥ {p_text(least)}"
  said = f"An exponential average: {averages['adamw']} and {averages['muon']}"
  on_muon = with_error(*paired_difference(free("muon-sam", "sam:rho=0.05"), strongest), 3, "+")
  yield CHEAP_FORMS, f"{said}; SAM on Muon {on_muon}, for twice the gradients"
  ended = paired_difference(free(*FREE_METHODS["adamw"][1]), bases["adamw"])
  yield WEIGHT_AVERAGE, f"ended {with_error(*ended, 3, '+')} nats from AdamW with a short anneal"
  muon = against(tuned, bases["adamw"])
  assert sign_flip_p(muon) > 0.05  # a hint
  said = with_error(*mean_and_error(muon), 3)
  yield CHOOSING, f"Muon: {said} nats, a hint"
  fresh = lambda name: next(iter(kept(FREE.format(f"fresh/{name}"))["runs"].values()))
  loss = lambda name: [run["test_loss"] for run in fresh(name)]
  assert sum(loss("muon-008")) < sum(loss("muon-004"))  # the better rate for the base
  on_adamw = against(loss("adamw-momentum-sam"), loss("adamw"))
  on_muon = against(loss("muon-momentum-sam-008"), loss("muon-008"))
  both = [(a + b) / 2 for a, b in zip(on_adamw, on_muon, strict=True)]
  over, adamw_alone, muon_alone = (
    with_error(*mean_and_error(x), 3) for x in (both, on_adamw, on_muon)
  )
  said = f"{over} (p = {p_text(sign_flip_p(both))}): {adamw_alone} on AdamW, {muon_alone} on Muon"
  yield CHEAP_FORMS, f"`momentum_sam` **holds** over both bases, {said}"
  yield CHOOSING, f"on AdamW: {adamw_alone} nats, not seen on Muon"
  yield README, f"took {adamw_alone[1:]} nats off AdamW's loss of a small Llama"


def word_rows():
  tables = kept(f"{WORDS}/fine-tuned/results.json")["tables"]["0.001"]
  before = {row["method"]: row for row in tables["first_before_32"]}
  runs = kept(f"{WORDS}/fine-tuned/results.json")["runs"]
  values = lambda method, key: [run[key] for run in runs[method]]
  damage = lambda m: paired_difference(values(m, "first_before_4"), values(m, "first_before_32"))
  (adamw, _), (sam, _) = damage("adamw"), damage("sam")
  yield FLATNESS, f"{100 * (1 - sam / adamw):.0f} % less at 0.3 M params"
  functional, plain = (values(m, "first_before_32") for m in ("functional_sam:ascent=adam", "sam"))
  said = with_error(*paired_difference(functional, plain), 3)
  added = gain(before["functional_sam:ascent=adam"], 3)
  yield FORGETTING, f"{said} nats to SAM at equal gradients (p = .008), {added} to AdamW"


def ire_rows():
  sizes = {48: "0.08 M", 96: "0.3 M", 192: "1 M"}
  tables = {w: kept(f"2026-11-26-ire-over-sizes/speed_up-{w}.json") for w in sizes}
  at = lambda table, method: [
    run["loss"] for run in table["runs"] if (run["method"], run["steps"]) == (method, 400)
  ]
  lead = lambda table: [a - b for a, b in zip(at(table, "ire"), at(table, "adamw"), strict=True)]
  every = holm(sign_flip_p(lead(table)) for table in tables.values())
  two = holm(sign_flip_p(lead(tables[width])) for width in (48, 96))
  ps = dict(zip(sizes, (*two, every[-1]), strict=True))
  yield IRE, f"p = {p_text(two[0])} over the two sizes, {p_text(every[0])} over all three"
  for width, params in sizes.items():
    rows = tables[width]["rows"]
    losses = [with_error(row["loss"], row["loss_error"], 4) for row in rows]
    up = with_error(rows[-1]["speed_up"], rows[-1]["speed_up_error"], 2)
    p = p_text(ps[width]) if ps[width] < 0.1 else f"{ps[width]:.2f}".lstrip("0")
    yield (
      IRE,
      f"| {params} | {' | '.join(losses)} | {p} | {up} | {number(rows[-1]['in_gradients'], 2)} |",
    )
  ups = [number(row["speed_up"], 2) for row in SPEED_UPS]
  errors = [with_error(row["speed_up"], row["speed_up_error"], 2) for row in SPEED_UPS]
  yield IRE, f"{errors[0]}, {errors[1]} and {errors[2]} times: 0.08, 0.3, 1 M params"
  row = SPEED_UPS[1]
  paid = number(row["in_gradients"], 2)
  error = number(row["speed_up_error"] * row["in_gradients"] / row["speed_up"], 2)
  yield IRE, f"needs {ups[1]} times the steps and {paid} ± {error} times the gradients"
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
  yield IRE, f"ends {with_error(*mean_and_error(by_seed(slow, best)), 3)} below that IRE"
  at = lambda name: [run["test_loss"] for run in runs("third-of-a-million", name)]
  base = min(map(at, ("adamw-.001", "adamw-.002", "adamw-.001-decay-.004")), key=sum)
  assert sum(at("ire")) < min(map(sum, map(at, ("ire-.001", "ire-.001-kappa-1"))))
  ahead = paired_difference(base, at("ire"))
  p = f"{sign_flip_p([a - b for a, b in zip(base, at('ire'), strict=True)]):.2f}".lstrip("0")
  yield IRE, f"IRE is {with_error(*ahead, 3)} nats below the best of three AdamW (p = {p})"
  longer = with_error(*paired_difference(at("ire"), at("adamw-7344")), 3)
  yield IRE, f"{longer} above AdamW of a quarter more steps"
  third = row_of(f"{TWENTY}/third-of-a-million/from-adamw/speed_up.json", "ire")
  said = with_error(third["speed_up"], third["speed_up_error"], 2)
  yield IRE, f"{said} ({ends(third)}): 0.3 M, 5,875"
  yield IRE, f"needs {said} times IRE's"
  more = [row["gradients"] / row["steps"] - 1 for row in SPEED_UPS]
  yield IRE, f"{100 * more[0]:.1f} % more gradients"
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
