"""What the pages say of Lookbehind, made from the results' files again."""

import itertools

import numpy as np

from experiments.measures.statistics import holm, mean_and_error, paired_difference, sign_flip_p
from tests.experiments.kept import (
  CHOOSING,
  FLATNESS,
  FORGETTING,
  kept,
  lines,
  p_text,
  with_error,
)

LOOKBEHIND = "2026-11-29-lookbehind-fitted"
SAMS = [f"sam:rho={rho},learning_rate=0.1" for rho in (0.1, 0.2, 0.4)]
ASAM, SGD = "asam:learning_rate=0.1,rho=0.5", "sgd:learning_rate=0.2"
TWO = "lookbehind:rho=0.1,learning_rate=0.1"
FIVE = "lookbehind:ascent_steps=5,learning_rate=0.0125,rho=0.05"
ON_ASAM = "lookbehind:eta=0.01,learning_rate=0.05,rho=0.25"
LONGER = {"sgd": 4688, "sam": 3516, "asam": 3516}
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


def only(found):
  (one,) = found.values()
  return one


def over_rival(found, frontier, key="multiplicative 0.2"):
  return found[key] - rival(frontier, found["clean"], key)


def points(gains):
  return with_error(*mean_and_error(gains), 2, "+")


def rival(frontier, clean, key):
  """SAM's best accuracy under noise, seed by seed, where it is no less accurate without noise.

  The frontier joins runs two by two, by mixtures of their accuracies. Where no point is
  accurate enough, the most accurate one counts.
  """
  mixtures = [
    {name: (1 - share) * a[name] + share * b[name] for name in ("clean", key)}
    for a, b in itertools.combinations(frontier, 2)
    for share in np.linspace(0, 1, 1001)
  ]
  enough = [x for x in mixtures if x["clean"].mean() >= clean.mean()]
  if not enough:
    return max(mixtures, key=lambda x: x["clean"].mean())[key]
  return max(enough, key=lambda x: x[key].mean())[key]


def noise_rows():
  steps = noise_of("equal-steps") | noise_of("other-settings")
  longer = {name: only(noise_of(f"{name}-{n}")) for name, n in LONGER.items()}
  trained = only(noise_of("weight-noise-4688"))
  labels = {
    "SGD": steps[SGD],
    "SGD, 4,688 steps": longer["sgd"],
    "training with the noise, 4,688 steps": trained,
    "SAM, `rho` 0.2": steps[SAMS[1]],
    "ASAM, `rho` 0.5": steps[ASAM],
    "Lookbehind, 2 ascent steps": steps[TWO],
    "Lookbehind on ASAM, 2": steps[ON_ASAM],
  }
  for label, found in labels.items():
    cells = (with_error(*mean_and_error(found[key])) for key in ("clean", *NOISE))
    yield from lines(FLATNESS, [(label, *cells)])
  sams = [steps[method] for method in SAMS]
  frontiers = {TWO: sams, FIVE: sams, ON_ASAM: [*sams, steps[ASAM]]}
  paid = {TWO: [longer["sam"]], FIVE: [longer["sam"]], ON_ASAM: [longer["sam"], longer["asam"]]}
  at_steps = {form: over_rival(steps[form], frontier) for form, frontier in frontiers.items()}
  at_gradients = [over_rival(steps[form], frontiers[form] + paid[form]) for form in paid]
  ps = holm(sign_flip_p(gains) for gains in at_steps.values())
  two, five, on_asam = (
    f"{points(gains)}{unit} (p = {p_text(p)})"
    for gains, p, unit in zip(at_steps.values(), ps, (" points", "", ""), strict=True)
  )
  assert min(ps) > 0.05  # not seen
  said = f"2 ascent steps: {two} to SAM of the same clean accuracy, 5: {five}, 2 on ASAM: {on_asam}"
  yield FLATNESS, f"{said}; at equal gradients {', '.join(map(points, at_gradients))}"
  assert max(map(sign_flip_p, at_gradients)) < 0.01  # it loses
  asam, sam, noisy = (
    {key: found[key] - longer["sgd"][key] for key in ("clean", NOISE[0])}
    for found in (steps[ASAM], steps[SAMS[1]], trained)
  )
  beyond = steps[ASAM][NOISE[0]] - trained[NOISE[0]]
  p = {p_text(sign_flip_p(gains)) for gains in (asam[NOISE[0]], noisy[NOISE[0]], beyond)}
  assert p == {".008"}
  gain, free, behind = (points(gains) for gains in (asam[NOISE[0]], noisy[NOISE[0]], beyond))
  clean, clean_free = points(asam["clean"]), points(noisy["clean"])
  yield FLATNESS, f"it is {free} under 0.2 (p = .008), {clean_free} without noise"
  yield FLATNESS, f"{gain} under 0.2 (p = .008), {clean} without noise, and {behind} to training"
  yield FLATNESS, f"SAM {points(sam[NOISE[0]])} under 0.2"
  yield CHOOSING, f"bits): {free} points over SGD"
  yield (
    CHOOSING,
    f"{behind} points beside training with it, {gain} beside SGD (relative noise of 0.2)",
  )


def lifelong_rows():
  """Sequences of tasks with replay, each method beside SAM."""
  runs = {
    label: {key: np.array([run[key] for run in of]) for key in ("average_accuracy", "forgetting")}
    for directory, labels in (
      ("replay", ("SAM", "SGD", "Lookbehind")),
      ("replay-5", ("Lookbehind, 5",)),
    )
    for label, of in zip(
      labels, kept(f"{LOOKBEHIND}/{directory}/results.json")["runs"].values(), strict=True
    )
  }
  minus = lambda one, other: {key: one[key] - other[key] for key in one}
  cells = lambda found, sign="": [with_error(*mean_and_error(x), 1, sign) for x in found.values()]
  sam, sgd, two, five = (runs[label] for label in ("SAM", "SGD", "Lookbehind", "Lookbehind, 5"))
  for label in ("SGD", "SAM", "Lookbehind, 5"):
    found = runs[label]
    beside = ["", ""] if label == "SAM" else cells(minus(found, sam), "+")
    yield from lines(FORGETTING, [(label, *cells(found), *beside)])
  lost = [minus(form, base)["forgetting"] for form in (two, five) for base in (sgd, sam)]
  to = [with_error(*mean_and_error(x), 1, "+") for x in lost]
  p = p_text(min(holm(map(sign_flip_p, lost))))
  said = f"2 ascent steps: {to[0]} points to SGD, {to[1]} to SAM; 5: {to[2]}, {to[3]} (p = {p})"
  yield FORGETTING, said
  tuned = kept(f"{LOOKBEHIND}/no-replay-tuned/results.json")["runs"]
  forgets = lambda m: next(
    [run["forgetting"] for run in of] for name, of in tuned.items() if name.startswith(m)
  )
  more = with_error(*paired_difference(forgets("lookbehind"), forgets("sgd")))
  yield FORGETTING, f"Without replay Lookbehind, 2, forgets {more} more than SGD"
