"""What the pages say of Fashion-MNIST, with right labels, made from the results' files again."""

from experiments.measures.statistics import holm, mean_and_error, sign_flip_p
from experiments.plots import front
from tests.experiments.kept import (
  ACCURACY,
  CHEAP_FORMS,
  CHOOSING,
  EVIDENCE,
  IRE,
  README,
  TUNED,
  accuracy,
  gain,
  kept,
  lines,
  number,
  p_text,
  paired,
  row_of,
  with_error,
)

FITTED = "2026-11-29-fashion-mnist-fitted"
ON_SGD, ON_ADAMW = (f"{FITTED}/on-{base}/frontier.json" for base in ("sgd", "adamw"))
FREE = "2026-11-29-one-gradient-a-step/fashion-mnist"
AT_BASES_RATE = {  # of ``FREE``'s averages, by base and by ``FREE_METHODS`` or a name
  ("adamw", "lookahead:learning_rate"): "adamw-lookahead",
  ("adamw", "lookahead:slow_momentum=0.5"): "adamw-lookahead-momentum",
  ("muon", "lookahead:learning_rate"): "muon-lookahead",
  ("muon", "lookahead:slow_momentum=0.5"): "muon-lookahead-momentum",
  ("sgd", "ema"): "sgd-ema",
  ("adamw", "ema"): "adamw-ema",
  ("muon", "ema"): "muon-ema",
  ("sgd", "weight average of 2 T"): "sgd-weight_average-2T",
}
SAM_ON_MUON = "2026-11-29-sam-on-muon"
ON_MUON = f"{SAM_ON_MUON}/on-muon/frontier.json"
VIT = "2026-11-29-vit"
VITS = (  # SAM's frontiers and rows
  ("on-adamw", "sam:rho=0.1"),
  ("width-48/on-adamw", "sam:rho=0.1"),
  ("width-48/on-muon", "sam:rho=0.2"),
  ("width-48/on-adamw", "ire:kappa=1"),
)
FORMS = f"{SAM_ON_MUON}/forms/frontier.json"
BEST_SGD, BEST_ADAMW = "sgd-T-as-sam", "adamw-T-best-on-test"
SMOOTHED = "adamw-smoothing"
BEST_MUON, FREE_MUON = "muon-best-on-test", "muon-momentum_sam-2.4"
# Comparisons of one method each, in the order of the page's table.
ROWS = {
  BEST_SGD: "sgd, `sam`'s rate and decay",
  "sgd-T": "sgd, by its trials",
  "weight_average-T": "`weight_average`",
  "ire-as-sam": "`ire()`, the same",
  "rst": "`rst`, p = 1/2",
  "sam": "`sam`",
  BEST_ADAMW: "adamw, the best on the test set",
  SMOOTHED: "adamw, label smoothing 0.1",
  "adamw-2T-at-best-rate": "adamw, twice the steps",
  "adamw-weight_average-T": "adamw with `weight_average`",
  "adamw-ire": "adamw with `ire()`",
  "adamw-sam": "adamw with `sam`",
  BEST_MUON: "muon, the best on the test set",
  "muon-2T": "muon, twice the steps",
  "muon-sam": "muon with `sam`",
}
# The best of a base, by the first word of its directories; the others of these no test is of.
BEST = {"adamw": BEST_ADAMW, "muon": BEST_MUON}
BASES = BEST_SGD, "sgd-T", BEST_ADAMW, SMOOTHED, "adamw-2T-at-best-rate", BEST_MUON, "muon-2T"


def results_of(directory):
  of_muon = FREE if directory in (BEST_MUON, FREE_MUON) else SAM_ON_MUON
  return kept(f"{of_muon if directory.startswith('muon') else FITTED}/{directory}/results.json")


def runs_of(directory):
  (runs,) = results_of(directory)["runs"].values()
  return runs


def mean(directory, name):
  return mean_and_error([run[name] for run in runs_of(directory)])


def beside(directory, base):
  """The difference of two comparisons, paired by seed, and its p-value."""
  pairs = list(zip(runs_of(directory), runs_of(base), strict=False))  # ten seeds on SGD alone
  runs, others = zip(*pairs, strict=True)
  p = sign_flip_p([a["test_accuracy"] - b["test_accuracy"] for a, b in pairs])
  return with_error(*paired(runs, others, "test_accuracy"), 2, "+"), p


def tested(directory):
  """The frontier's row of a comparison's method."""
  (method,) = results_of(directory)["runs"]
  on_base = {"adamw": ON_ADAMW, "muon": ON_MUON}.get(directory.partition("-")[0], ON_SGD)
  return row_of(on_base, method)


def cells(directory):
  best = BEST.get(directory.partition("-")[0], BEST_SGD)
  difference, p = "", ""
  if directory not in BASES:
    difference, p = gain(tested(directory), 2), p_text(tested(directory)["p_holm"])
  elif directory != best:
    difference, _ = beside(directory, best)
  return (
    f"{mean(directory, 'gradients')[0]:,.0f}",
    ROWS[directory],
    number(mean(directory, "train_accuracy")[0], 1),
    with_error(*mean(directory, "test_accuracy"), 2),
    difference,
    p,
  )


def fashion_rows():
  yield from lines(ACCURACY, map(cells, ROWS))
  plain = lambda text: text.removeprefix("+")
  seemed, p = beside("sam", "sgd-T")
  yield ACCURACY, f"`sam` beats by {plain(seemed)} points (p = {p_text(p)})"
  luck = plain(beside(BEST_SGD, "sgd-T")[0])
  yield ACCURACY, f"SGD at `sam`'s rate and decay is {luck} better"
  yield CHOOSING, f"by {luck} points, as much as methods gain"
  losses = [number(mean(name, "test_loss")[0], 3) for name in ("sam", "sgd-T")]
  yield ACCURACY, f"lower test loss, {losses[0]} (SGD's trials: {losses[1]})"
  three = gain(row_of(f"{TUNED}/fashion-mnist/frontier.json", "sam"), 2)
  yield ACCURACY, f"images `sam` is {three} to the SGD of the same 3,000 gradients"
  sams = "sam", "adamw-sam", "muon-sam"
  sam, on_adamw, on_muon = (gain(tested(name), 2) for name in sams)
  ps = [p_text(tested(name)["p_holm"]) for name in sams]
  over_smoothed, alone = beside("adamw-sam", SMOOTHED)
  hint = f"(beside label smoothing {plain(over_smoothed)}, a **hint**)"
  bases = f"{plain(on_muon)} to Muon, the best base, {plain(on_adamw)} to AdamW {hint}"
  yield ACCURACY, f"`sam` adds {bases}, and to SGD {plain(sam)}"
  yield ACCURACY, f"{sam} (p = {ps[0]}): Fashion-MNIST"
  smoothing = f"beside smoothing {over_smoothed} ({p_text(alone)} alone)"
  found = f"{on_adamw} (p = {ps[1]}), {smoothing}, on Muon {on_muon} (p = {ps[2]})"
  yield ACCURACY, f"Right labels: {found}"
  behind, wider, on_muon_too, ire = (
    gain(row_of(f"{VIT}/{where}/frontier.json", method), 2) for where, method in VITS
  )
  (runs,) = kept(f"{VIT}/width-48/muon-T/results.json")["runs"].values()
  fitted = number(mean_and_error([run["train_accuracy"] for run in runs])[0], 0)
  lost = row_of(f"{VIT}/on-adamw/frontier.json", VITS[0][1])["p_holm"]
  both = f"{wider} (66,874 params), {behind} (32,298; p = {p_text(lost)})"
  yield IRE, f"ViT of 66,874 params: {ire}"
  yield ACCURACY, f"ViTs: {both}; on Muon {on_muon_too} ({fitted} % fitted)"
  over, p = beside("muon-sam", FREE_MUON)
  yield ACCURACY, f"which is free, {plain(over)} is not shown (p = {p_text(p)}"
  assert p > 0.05
  yield CHOOSING, "nor over `momentum_sam`"
  over, p = beside("adamw-sam", "adamw-weight_average-T")
  yield ACCURACY, f"{plain(over)} above the weight average there (p = {p_text(p)})"
  both = f"{on_adamw} to AdamW ({over_smoothed} beside smoothing)"
  yield EVIDENCE, f"100 epochs: {on_muon} to Muon, {both}, {sam} to SGD"
  yield CHOOSING, f"on Muon: {on_muon} points, on AdamW with smoothing: {over_smoothed}, a hint;"
  yield CHOOSING, f"on SGD: {sam}"
  free = tested("weight_average-T")
  keeps = p_text(tested("rst")["keeps_p"])
  yield CHEAP_FORMS, f"Right labels, 100 epochs: RST {beside('rst', 'sam')[0]} to SAM, p = {keeps}"
  yield IRE, f"[right ones](accuracy.md#right-labels), 100 epochs: {gain(tested('adamw-ire'), 2)}"
  yield IRE, f"[right ones](accuracy.md#right-labels): {gain(tested('ire-as-sam'), 2)}"
  assert free["p_holm"] > 0.05  # a hint, as the pages say
  both = beside("adamw-sam_ire", "adamw-sam")[0]
  yield IRE, f"right ones, on AdamW {both}"
  yield CHEAP_FORMS, f"Right labels: {beside('sgd-late_sam', BEST_SGD)[0]}, on Muon"
  rhos = [results_of(name)["chosen"]["sam:rho=0.05"]["method"]["rho"] for name in sams]
  yield CHOOSING, f"`rho` {rhos[0]:g} on SGD, {rhos[1]:g} on AdamW, {rhos[2]:g} on Muon"
  both = f"{plain(on_adamw)} to AdamW ({plain(over_smoothed)} to it with label smoothing of 0.1)"
  yield README, f"where they were right, {plain(on_muon)} to Muon, {both} and {plain(sam)} to SGD"


def muon_form_rows():
  rst, sala, late = (
    row_of(FORMS, m) for m in ("rst:rho=0.4", "sala:sync_period=5", "late_sam:start=0.75")
  )
  to_sam = {name: beside(f"muon-{name}", "muon-sam")[0] for name in ("rst", "sala")}
  keeps = p_text(rst["keeps_p"])
  yield CHEAP_FORMS, f"on Muon {gain(rst, 2)}, {to_sam['rst']} to SAM, p = {keeps}"
  keeps = p_text(sala["keeps_p"])
  yield CHEAP_FORMS, f"on Muon {gain(sala, 2)}, {to_sam['sala']} to SAM, p = {keeps}"
  yield CHEAP_FORMS, f"on Muon {gain(late, 2)}"
  yield CHOOSING, f"`rst` ({gain(rst, 2)} on Muon)"
  yield CHOOSING, f"`sync_period=5` ({gain(sala, 2)} on Muon)"
  added = row_of(ON_MUON, "sam:rho=0.05")
  yield CHEAP_FORMS, f"RST adds {gain(rst, 2)[1:]} and SALA {gain(sala, 2)[1:]}"
  yield CHEAP_FORMS, f"to keep SAM's {gain(added, 2)[1:]}"
  assert min(rst["keeps_p"], sala["keeps_p"]) > 0.05 > max(rst["p_holm"], sala["p_holm"])
  yield README, f"`rst` added {gain(rst, 2)[1:]} and `sala` {gain(sala, 2)[1:]}"


FREE_METHODS = (  # how the methods begin, in the order of the page's columns
  "momentum_sam:rho=0.075",
  "weight_average",
  "lookahead:learning_rate",
  "lookahead:slow_momentum=0.5",
)


def free_row(base, method):
  """The first row whose method begins so, where it ran on the base."""
  rows = kept(f"{FREE}/on-{base}/frontier.json")["rows"]
  return next((row for row in rows if row["method"].startswith(method)), None)


def at_bases_rate():
  """Differences to the bases, and their p-values alone."""
  bases = {"sgd": BEST_SGD, "adamw": BEST_ADAMW, "muon": BEST_MUON}
  runs = lambda name: next(iter(kept(f"{FREE}/averages/{name}/results.json")["runs"].values()))
  pairs = {at: (runs(name), runs_of(bases[at[0]])) for at, name in AT_BASES_RATE.items()}
  ps = {
    at: sign_flip_p([a["test_accuracy"] - b["test_accuracy"] for a, b in zip(*pair, strict=True)])
    for at, pair in pairs.items()
  }
  added = {at: with_error(*paired(*pair, "test_accuracy"), 2, "+") for at, pair in pairs.items()}
  return added, ps


def free_rows():
  untuned, alone = at_bases_rate()
  ps = holm(alone.values())
  for base in ("sgd", "adamw", "muon"):
    found = [free_row(base, method) for method in FREE_METHODS]
    own = [untuned.get((base, method), "") for method in FREE_METHODS]
    cells = [gain(row, 2) if row else cell for row, cell in zip(found, own, strict=True)]
    yield from lines(CHEAP_FORMS, [(base, accuracy(free_row(base, f"{base}:"), 2), *cells)])
    ps += [row["p_holm"] for row in found if row]
  gains, larger = (free_row("muon", f"momentum_sam:rho={rho}") for rho in (0.075, 2.4))
  yield CHEAP_FORMS, f"with 2.4 it adds {gain(larger, 2)[1:]}."
  added = gain(gains, 2)
  ps.remove(gains["p_holm"])
  assert gains["p_holm"] < 0.05 < min(ps)
  on_muon = [row["p"] for row in kept(f"{FREE}/on-muon/frontier.json")["rows"] if row["p"]]
  on_muon += [p for (base, _), p in alone.items() if base == "muon"]
  assert min(on_muon) == gains["p"]
  others = f"{p_text(min(ps))} or more for the others"
  ema = max(text for (_, name), text in untuned.items() if name == "ema" and text[0] == "+")
  yield CHEAP_FORMS, f"An exponential average adds {ema[1:]} at most"
  yield (
    CHEAP_FORMS,
    f"p = {p_text(holm(on_muon)[on_muon.index(gains['p'])])} for `momentum_sam` on Muon, {others}",
  )
  yield CHEAP_FORMS, f"**holds**: {added} for nothing"
  yield CHOOSING, f"with right ones {added} on Muon"
  yield README, f"{added[1:]} to Muon where labels were right"
  pairs = (BEST_MUON, BEST_ADAMW), (BEST_MUON, BEST_SGD), (BEST_ADAMW, BEST_SGD)
  p, *_ = holm(beside(*pair)[1] for pair in pairs)
  above = beside(BEST_MUON, BEST_ADAMW)[0].removeprefix("+")
  yield CHEAP_FORMS, f"Muon is {above} above AdamW at the same rate and decay (p = {p_text(p)})"
  yield CHEAP_FORMS, f"{beside(BEST_MUON, 'adamw-sam')[0]} to `sam` on AdamW"
  yield CHOOSING, f"{above[:3]} points above AdamW; more epochs"
  yield README, f"`optax.contrib.muon` gave {above[:3]} more than AdamW"
  best = number(front.best(front.PANELS[1], "muon"), 1, "+")
  yield README, f"the best Muon at {best}"
