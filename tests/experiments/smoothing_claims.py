"""What the pages say of AdamW and label smoothing with wrong labels, made from the files again."""

from experiments.measures.statistics import holm, mean_and_error, sign_flip_p
from tests.experiments.kept import (
  ACCURACY,
  CHOOSING,
  EVIDENCE,
  IRE,
  README,
  TUNED,
  TUNED_AT,
  kept,
  lines,
  number,
  p_text,
  with_error,
)

SGD, SMOOTH_SGD = "200/sgd", "again/100/sgd-smooth-0.4"
ADAMW, SMOOTH_ADAMW = "100/adamw-adamw", "again/200/adamw-smooth-0.4"
SAM, SMOOTH_SAM_ON_SGD = "again/800/sam", "again/800/sgd-smooth-0.4-sam"
RST, SMOOTH_RST = "again/800/rst", "again/800/smooth-0.4-rst"
ON_ADAMW = {  # each method's directory, and its label
  SAM: "`sam`",
  "again/800/smooth-0.4-sam": "`sam`, smoothing",
  RST: "`rst`, p = 1/2",
  SMOOTH_RST: "`rst`, p = 1/2, smoothing",
  "800/adamw-lookbehind": "`lookbehind`, k = 2",
  "again/800/sala": "`sala`, k = 5",
  "again/800/g_rst": "`g_rst`, p = 1/2",
  "again/800/momentum_sam": "`momentum_sam`",
  "800/adamw-ire": "`ire()`",
}
TESTED_TOO = [f"again/{of}" for of in ("400/smooth-0.4-sam", "400/smooth-0.4-rst")]
TESTED_TOO += ["again/800/smooth-0.4-lookbehind"]


def accuracies(directory):
  (runs,) = kept(f"{TUNED}/{directory}/results.json")["runs"].values()
  return [run["test_accuracy"] for run in runs]


def beside(directory, base):
  return [a - b for a, b in zip(accuracies(directory), accuracies(base), strict=True)]


def said(directory, base, sign="+"):
  return with_error(*mean_and_error(beside(directory, base)), 1, sign)


def smoothing_rows():
  cell = lambda directory: with_error(*mean_and_error(accuracies(directory)))
  own = said(ADAMW, SMOOTH_ADAMW)
  yield from lines(ACCURACY, [("adamw, 100 gradients", cell(ADAMW), own, "")])
  label = "adamw, smoothing, 200 gradients"
  yield from lines(ACCURACY, [(label, cell(SMOOTH_ADAMW), "", "")])
  tested = [*ON_ADAMW, *TESTED_TOO]
  ps = holm(sign_flip_p(beside(directory, SMOOTH_ADAMW)) for directory in tested)
  for directory, p in zip(tested, ps, strict=True):
    gained, _ = mean_and_error(beside(directory, SMOOTH_ADAMW))
    assert gained < 0 or p > 0.05  # not seen
    if label := ON_ADAMW.get(directory):
      row = (label, cell(directory), said(directory, SMOOTH_ADAMW), p_text(p))
      yield from lines(ACCURACY, [row])
  to_adamw = [said(directory, ADAMW, "") for directory in (SAM, RST)]
  yield ACCURACY, "`sam` adds {} and `rst` {} to this AdamW".format(*to_adamw)
  first = f"{cell(ADAMW)} %, {said(ADAMW, SGD)} to the best SGD"
  yield ACCURACY, f"The best AdamW, of 100 gradients, is at {first}"
  yield ACCURACY, f"with 200 gradients, **{said(SMOOTH_ADAMW, ADAMW, '')}: it is free"
  on_sgd = [row["method"].partition(":")[0] for row in kept(TUNED_AT.format(800))["rows"]]
  methods = [f"800/{name}" for name in on_sgd if name != "sgd"]
  methods += ["again/800/sgd-smooth-0.4-rst", SMOOTH_SAM_ON_SGD]
  p = holm(sign_flip_p(beside(directory, SMOOTH_SGD)) for directory in methods)[-1]
  assert 0.05 < p < 0.1  # a hint
  both = said(SMOOTH_SAM_ON_SGD, SMOOTH_SGD)
  smoothed = f"gains {said(SMOOTH_SGD, SGD, '')} by smoothing; SAM with it on SGD is {both}"
  other = said(SMOOTH_SAM_ON_SGD, SMOOTH_ADAMW)
  yield ACCURACY, f"SGD {smoothed} to that, a hint (p = {p_text(p)}), and {other} to AdamW with it"
  yield ACCURACY, f"where both have label smoothing, {both[1:]} (p = {p_text(p)})"
  yield ACCURACY, f"both with label smoothing: {both}"
  sam = said(SAM, SMOOTH_ADAMW)
  yield ACCURACY, f"40 % wrong labels: {said(SAM, ADAMW)}, {sam} beside label smoothing"
  yield EVIDENCE, f"to AdamW with label smoothing {sam}"
  ahead = [mean_and_error(beside(directory, SGD))[0] for directory in (ADAMW, SMOOTH_ADAMW)]
  adamw, smooth = (number(x, 1) for x in ahead)
  yield README, f"is {adamw} above that, and with label smoothing of 0.4, stopped at 200, {smooth}"
  yield README, f"the best AdamW, with label smoothing, at +{smooth}"
  yield CHOOSING, f"{smooth} points over the best SGD"
  rst = said(SMOOTH_RST, SMOOTH_ADAMW)
  yield (
    CHOOSING,
    f"with smoothing on both {both}, a hint; not seen on AdamW with it: `sam` {sam}, `rst` {rst}",
  )
  yield IRE, f"{said('800/adamw-ire', '800/adamw-adamw')} to AdamW of its 800 gradients"
