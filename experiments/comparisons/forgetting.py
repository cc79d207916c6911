"""Learning against forgetting, over several fine-tunings: whose frontier is beyond the reference's.

Runs that learn little forget little, so that losses on the old corpus are compared where those on
the new one are equal, along the curve that the rates of fine-tuning draw.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import config as configuration
from experiments.config import Refusal, files
from experiments.measures import statistics
from experiments.measures.quantisation import WHOLE

AS_MANY = 1.01  # times a method's gradients: random numbers of them differ by less


class Arm(NamedTuple):
  """A method's runs of one pre-training budget."""

  method: str
  amount: int
  unit: str
  gradients: float  # that a run pays before it is fine-tuned
  runs: list[list[dict[str, Any]]]  # by seed, of each rate

  @property
  def label(self) -> str:
    return f"{self.method}, {self.amount} {self.unit}"


def read(directories: Sequence[Path]) -> tuple[dict[str, Any], list[Arm]]:
  """What finished fine-tunings share, and their arms; refuses those that are not alike."""
  shared, arms = {}, []
  for directory in directories:
    if not (directory / "results.json").exists() or not (directory / "compare.json").exists():
      raise Refusal(f"{directory} holds no finished fine-tuning")
    spec = files.read_json(directory / "compare.json")
    if "pretrained" not in spec:
      raise Refusal(f"{directory} is a comparison; its `fine-tune` is needed")
    own = copy.deepcopy(spec)
    before = directory / own.pop("pretrained")
    del own["methods"], own["versions"], own["config"]["opt"]["learning_rate"]
    if lines := configuration.differences(shared or own, own):
      raise Refusal(f"{directory} is not like {directories[0]}: {', '.join(lines)}")
    shared = own
    trained, paid = (files.read_json(before / f"{name}.json") for name in ("compare", "results"))
    for method, rows in files.read_json(directory / "results.json")["runs"].items():
      gradients = float(np.mean([run["gradients"] for run in paid["runs"][method]]))
      runs = [[row for row in rows if row["seed"] == seed] for seed in range(own["seeds"])]
      arms.append(Arm(method, trained["amount"], trained["unit"], gradients, runs))
  return shared, arms


def every_point(rows: Sequence[dict[str, Any]]) -> list[list[float | None]]:
  """(loss on the new corpus, loss on the old) before fine-tuning and after it, as rates rise."""
  point = lambda row, when: [row[f"{name}_{when}_{WHOLE}"] for name in ("second", "first")]
  rising = sorted(rows, key=lambda row: row["learning_rate"])
  return [point(rows[0], "before"), *(point(row, "after") for row in rising)]


def curve(rows: Sequence[dict[str, Any]]) -> np.ndarray:
  """A run's points as long as the loss on the new corpus falls."""
  points = np.array(every_point(rows), np.float64)  # NaN where one diverged
  falls = np.diff(points[:, 0]) < 0
  return points[: 1 + (len(falls) if falls.all() else np.argmin(falls))]


def distance(one: np.ndarray, other: np.ndarray) -> float:
  """Mean of ``one``'s old-corpus loss minus ``other``'s, at equal losses on the new corpus.

  Over those from the lowest that both reach, to the higher of the two at the smallest rate. NaN
  where one of them learned nothing.
  """
  if min(len(one), len(other)) < 2:
    return np.nan
  low, high = (max(one[i, 0], other[i, 0]) for i in (-1, 1))
  knots = np.unique(np.clip(np.concatenate([one[:, 0], other[:, 0]]), low, high))
  at_knots = lambda points: np.interp(knots, *points[::-1].T)
  apart = at_knots(one) - at_knots(other)
  return float(apart[0] if low == high else np.trapezoid(apart, knots) / (high - low))


def between_curves(one: Arm, other: Arm) -> list[float]:
  pairs = zip(one.runs, other.runs, strict=True)
  return [distance(curve(a), curve(b)) for a, b in pairs]


def between_few_bits(bits: int) -> Callable[[Arm, Arm], list[float]]:
  """Of the losses on the old corpus before fine-tuning, with ``bits`` a weight."""
  own = lambda arm: [rows[0][f"first_before_{bits}"] for rows in arm.runs]
  return lambda one, other: statistics.differences(own(one), own(other)).tolist()


def as_many_gradients(method: Arm, other: Arm) -> bool:
  return other.gradients <= AS_MANY * method.gradients


def as_many_steps(method: Arm, other: Arm) -> bool:
  return (other.amount, other.unit) == (method.amount, method.unit)


def table(arms: Sequence[Arm], reference: str, rival: Callable, between: Callable) -> list[dict]:
  """A row a method: its difference from the strongest of the reference's arms that are rivals.

  That is the one to which the mean difference is the least to the method's favour, and p-values
  are corrected for the number of methods.
  """
  is_reference = lambda arm: arm.method.partition(":")[0] == reference
  bases = [arm for arm in arms if is_reference(arm)]
  rows = []
  for arm in (arm for arm in arms if not is_reference(arm)):
    found = {base.label: between(arm, base) for base in bases if rival(arm, base)}
    if not found:
      raise Refusal(f"{arm.label}: no run of {reference} pays as little")
    strongest = max(found, key=lambda label: np.mean(found[label]))
    row = {"method": arm.label, "gradients": arm.gradients, "rival": strongest}
    row |= {"n": len(arm.runs), "by_seed": [files.finite(x) for x in found[strongest]]}
    rows.append(row | statistics.compared(found[strongest], np.zeros(len(arm.runs))))
  statistics.add_holm(rows)
  return rows


def measure(directories: Sequence[Path], reference: str, out: Path) -> None:
  """Writes forgetting.json."""
  shared, arms = read(directories)
  if not any(arm.method.partition(":")[0] == reference for arm in arms):
    raise Refusal(f"--reference {reference} is in none of the fine-tunings")
  few = between_few_bits(min(shared["bits"]))
  rivals = {"gradients": as_many_gradients, "steps": as_many_steps}
  tables = {
    f"{name}{suffix}": table(arms, reference, rival, between)
    for suffix, between in (("", between_curves), (f"_{min(shared['bits'])}", few))
    for name, rival in rivals.items()
  }
  out.mkdir(parents=True, exist_ok=True)
  found = {"reference": reference, "tables": tables, "arms": [described(arm) for arm in arms]}
  files.write_json(out / "forgetting.json", found | shared)


def described(arm: Arm) -> dict[str, Any]:
  """Means over seeds of (loss on the new corpus, loss on the old), before and at each rate."""
  row = {"method": arm.label, "gradients": arm.gradients}
  points = np.array([every_point(rows) for rows in arm.runs], np.float64)  # NaN where one diverged
  return row | {"points": [[files.finite(x) for x in each] for each in np.mean(points, axis=0)]}
