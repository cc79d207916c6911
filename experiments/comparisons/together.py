"""Runs of several finished comparisons that differ in methods, trials and steps alone."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configuration
from experiments.comparisons.table import run_rows
from experiments.config import Refusal, files

VARIES = (
  "methods",
  "amount",
  "unit",
  "grid",
  "trials",
  "versions",
)  # between comparisons that go together


def read(
  directories: Sequence[Path], unit: str | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
  """What the comparisons share, and a row for every run in them, as ``run_rows`` makes them.

  A row has besides "amount" and "unit", the budget of its comparison, and "directory". With ``unit``, other
  comparisons are refused.
  """
  shared, rows, where = {}, [], {}
  for directory in directories:
    if not (directory / "results.json").exists() or not (directory / "compare.json").exists():
      raise Refusal(f"{directory} holds no finished comparison")
    spec = files.read_json(directory / "compare.json")
    if unit not in (None, spec["unit"]):
      raise Refusal(f"{directory} compares at equal {spec['unit']}, not at equal {unit}")
    own = copy.deepcopy({name: x for name, x in spec.items() if name not in VARIES})
    del own["config"]["opt"], own["config"]["training"]  # each method's were tuned
    if lines := configuration.differences(shared or own, own):
      raise Refusal(f"{directory} is not like {directories[0]}: {', '.join(lines)}")
    shared = own
    for row in run_rows(files.read_json(directory / "results.json")["runs"]):
      key = row["method"], spec["amount"], spec["unit"], row["seed"]
      if key in where:
        raise Refusal(f"{where[key]} and {directory} both hold {key[0]} at {key[1]} {key[2]}")
      where[key] = directory
      rows.append(row | {"amount": spec["amount"], "unit": spec["unit"], "directory": directory})
  return shared, rows
