"""What the pages say of Fashion-MNIST, with right labels, made from the results' files again."""

from experiments.measures.statistics import mean_and_error, sign_flip_p
from tests.experiments.kept import (
  ACCURACY,
  CHEAP_FORMS,
  CHOOSING,
  EVIDENCE,
  IRE,
  README,
  TUNED,
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
BEST_SGD, BEST_ADAMW = "sgd-T-as-sam", "adamw-T-best-on-test"
# Comparisons of one method each, in the order of the page's table.
ROWS = {
  BEST_SGD: "sgd, `sam`'s rate and decay",
  "sgd-T": "sgd, by its trials",
  "weight_average-T": "`weight_average`",
  "ire-as-sam": "`ire()`, the same",
  "rst": "`rst`, p = 1/2",
  "sam": "`sam`",
  BEST_ADAMW: "adamw, the best on the test set",
  "adamw-2T-at-best-rate": "adamw, twice the steps",
  "adamw-weight_average-T": "adamw with `weight_average`",
  "adamw-ire": "adamw with `ire()`",
  "adamw-sam": "adamw with `sam`",
}
BASES = BEST_SGD, "sgd-T", BEST_ADAMW, "adamw-2T-at-best-rate"  # which no test is of


def runs_of(directory):
  (runs,) = kept(f"{FITTED}/{directory}/results.json")["runs"].values()
  return runs


def mean(directory, name):
  return mean_and_error([run[name] for run in runs_of(directory)])


def beside(directory, base):
  """The difference of two comparisons, paired by seed, and its p-value."""
  pairs = list(zip(runs_of(directory), runs_of(base), strict=directory[:5] == base[:5]))
  runs, others = zip(*pairs, strict=True)
  p = sign_flip_p([a["test_accuracy"] - b["test_accuracy"] for a, b in pairs])
  return with_error(*paired(runs, others, "test_accuracy"), 2, "+"), p


def tested(directory):
  """The frontier's row of a comparison's method."""
  (method,) = kept(f"{FITTED}/{directory}/results.json")["runs"]
  return row_of(ON_ADAMW if directory.startswith("adamw") else ON_SGD, method)


def cells(directory):
  best = BEST_ADAMW if directory.startswith("adamw") else BEST_SGD
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
  seemed = [beside("sam", base) for base in ("sgd-T", "sgd-2T")]
  assert {p_text(p) for _, p in seemed} == {".002"}
  first, twice = (plain(text) for text, _ in seemed)
  yield (
    ACCURACY,
    f"`sam` beats by {first} points, and by {twice} at twice the steps (p = .002 each)",
  )
  luck = plain(beside(BEST_SGD, "sgd-T")[0])
  yield ACCURACY, f"point of its own grid, is {luck} better"
  yield CHOOSING, f"by {luck} points, as much as methods gain"
  yield ACCURACY, f"free and {plain(beside('weight_average-T', 'sam')[0])} above `sam`"
  yield ACCURACY, f"{plain(beside(BEST_ADAMW, BEST_SGD)[0])} above the best SGD"
  losses = [number(mean(name, "test_loss")[0], 2) for name in ("sam", BEST_SGD)]
  yield ACCURACY, f"lower test loss, {losses[0]} against {losses[1]}"
  yield ACCURACY, f"(at its own rate and decay {plain(beside('adamw-sam', 'adamw-T')[0])})"
  three = gain(row_of(f"{TUNED}/fashion-mnist/frontier.json", "sam"), 2)
  yield ACCURACY, f"images `sam` is {three} to the SGD of the same 3,000 gradients"
  sam, on_adamw = (gain(tested(name), 2) for name in ("sam", "adamw-sam"))
  ps = [p_text(tested(name)["p_holm"]) for name in ("sam", "adamw-sam")]
  yield ACCURACY, f"`sam` adds {plain(on_adamw)} to the best AdamW, and to SGD {plain(sam)}"
  yield ACCURACY, f"{sam} (p = {ps[0]}): Fashion-MNIST"
  yield ACCURACY, f"{on_adamw} (p = {ps[1]}): right labels"
  over, p = beside("adamw-sam", "adamw-weight_average-T")
  yield ACCURACY, f"{plain(over)} above the weight average there (p = {p_text(p)})"
  yield EVIDENCE, f"With right labels, 100 epochs: {on_adamw} to AdamW, {sam} to SGD"
  yield CHOOSING, f"on AdamW: {on_adamw} points"
  yield CHOOSING, f"on SGD: {sam}"
  free = tested("weight_average-T")
  said = f"{gain(free, 2)} to the best SGD (p = {p_text(free['p_holm'])})"
  yield CHEAP_FORMS, f"SWA at a constant rate is {said}"
  yield CHOOSING, f"`weight_average` at a constant rate: {gain(free, 2)}"
  keeps = p_text(tested("rst")["keeps_p"])
  yield CHEAP_FORMS, f"Right labels, 100 epochs: RST {beside('rst', 'sam')[0]} to SAM, p = {keeps}"
  yield IRE, f"[right ones](accuracy.md#right-labels), 100 epochs: {gain(tested('adamw-ire'), 2)}"
  yield IRE, f"[right ones](accuracy.md#right-labels): {gain(tested('ire-as-sam'), 2)}"
  assert free["p_holm"] > 0.05  # a hint, as the pages say
  rhos = [
    kept(f"{FITTED}/{name}/results.json")["chosen"]["sam:rho=0.05"]["method"]["rho"]
    for name in ("sam", "adamw-sam")
  ]
  yield CHOOSING, f"`rho` {rhos[0]:g} on SGD, {rhos[1]:g} on AdamW"
  yield README, f"where they were right, {plain(on_adamw)} to AdamW and {plain(sam)} to SGD"
