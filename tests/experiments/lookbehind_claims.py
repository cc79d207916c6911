"""What the pages say of Lookbehind, made from the results' files again."""

import itertools

import numpy as np

from experiments.measures.statistics import holm, mean_and_error, paired_difference, sign_flip_p
from tests.experiments.kept import (
  CHOOSING,
  FLATNESS,
  FORGETTING,
  gain,
  kept,
  lines,
  p_text,
  with_error,
)

LOOKBEHIND = "2026-11-29-lookbehind-fitted"
SAMS = [f"sam:rho={rho},learning_rate=0.1" for rho in (0.1, 0.2, 0.4)]
UNDER_NOISE = {
  "sgd:learning_rate=0.2": "SGD",
  SAMS[0]: "SAM, `rho` 0.1",
  SAMS[1]: "SAM, `rho` 0.2",
  "lookbehind:rho=0.1,learning_rate=0.1": "Lookbehind, 2 ascent steps, `rho` 0.1",
  "lookbehind:ascent_steps=5,learning_rate=0.025,rho=0.05": "Lookbehind, 5, `rho` 0.05",
}
NOISE = [f"multiplicative {strength}" for strength in (0.2, 0.3)]


def noise_of(directory):
  """By method: each seed's clean accuracy on the whole test set, and those under noise."""
  runs = kept(f"{LOOKBEHIND}/{directory}/results.json")["runs"]
  noise = kept(f"{LOOKBEHIND}/{directory}/noise.json")
  return {
    method: {"clean": np.array([run["test_accuracy"] for run in runs[method]])}
    | {
      f"{kind} {strength:g}": np.array([run[kind]["mean"][i] for run in found])
      for kind, strengths in noise["strengths"].items()
      for i, strength in enumerate(strengths)
    }
    for method, found in noise["runs"].items()
  }


def rival(frontier, clean, key):
  """SAM's best accuracy under noise, seed by seed, where it is no less accurate without noise.

  The frontier joins neighbouring values of rho by mixtures of their accuracies. Where no point is
  accurate enough, the most accurate one counts.
  """
  mixtures = [
    {name: (1 - share) * a[name] + share * b[name] for name in ("clean", key)}
    for a, b in itertools.pairwise(frontier)
    for share in np.linspace(0, 1, 1001)
  ]
  enough = [x for x in mixtures if x["clean"].mean() >= clean.mean()]
  if not enough:
    return max(mixtures, key=lambda x: x["clean"].mean())[key]
  return max(enough, key=lambda x: x[key].mean())[key]


def noise_rows():
  found = noise_of("equal-steps") | noise_of("lookbehind-5")
  for method, label in UNDER_NOISE.items():
    cells = (with_error(*mean_and_error(found[method][key])) for key in ("clean", *NOISE))
    yield from lines(FLATNESS, [(label, *cells)])
  frontier, forms = [found[method] for method in SAMS], list(UNDER_NOISE)[-2:]
  pairs = [(found[m][NOISE[0]], rival(frontier, found[m]["clean"], NOISE[0])) for m in forms]
  two, five = (with_error(*paired_difference(*pair), 2, "+") for pair in pairs)
  ps = holm(sign_flip_p(values - others) for values, others in pairs)
  said = f"2 ascent steps: {two} points to SAM of the same clean accuracy (p = {p_text(ps[0])})"
  yield FLATNESS, f"{said}, 5: {five} (p = {p_text(ps[1])})"
  sam, sgd = found[SAMS[1]], found["sgd:learning_rate=0.2"]
  over = [with_error(*paired_difference(sam[x], sgd[x]), 2, "+") for x in (*NOISE, "clean")]
  yield FLATNESS, f"{over[0]} under 0.2, {over[1]} under 0.3, {over[2]} without noise"
  yield CHOOSING, f"{over[0]} points over SGD tuned under noise of 0.2, {over[2]} without noise"


def lifelong_rows():
  """Sequences of tasks with replay, each method beside SAM, the first."""
  result = kept(f"{LOOKBEHIND}/replay/results.json")
  tables, runs = result["tables"], result["runs"]
  labels = {"sgd": "SGD", "sam": "SAM", "lookbehind": "Lookbehind"}
  for label, known, lost in zip(
    labels.values(),
    *(
      [row for start in labels for row in tables[key] if row["method"].startswith(start)]
      for key in ("average_accuracy", "forgetting")
    ),
    strict=True,
  ):
    own = [
      with_error(row[key], row[key + "_error"])
      for row, key in ((known, "average_accuracy"), (lost, "forgetting"))
    ]
    beside = ["", ""] if label == "SAM" else [gain(known), gain(lost)]
    yield from lines(FORGETTING, [(label, *own, *beside)])
  by_method = {
    method.partition(":")[0]: [run["forgetting"] for run in of] for method, of in runs.items()
  }
  mine = by_method.pop("lookbehind")
  to = {m: with_error(*paired_difference(mine, of), 1, "+") for m, of in by_method.items()}
  ps = holm(sign_flip_p(np.subtract(mine, of)) for of in by_method.values())
  assert min(ps) > 0.05  # not seen
  yield FORGETTING, f"{to['sgd']} points to SGD, {to['sam']} to SAM (p ≥ {p_text(min(ps))})"
