"""Measures a step of every contender on one model: exact costs, and time."""

import sys
from typing import Any

from benchmarks import program, timing
from benchmarks.contenders import contenders
from benchmarks.models import Model


def measure(model: Model, only: list[str] | None = None, rounds: int = 9) -> dict[str, Any]:
  """Returns ``{"model", "num_params", "rows"}``, without times if ``rounds`` is 0."""
  rows: dict[str, dict[str, Any]] = {}
  runs = {}
  for contender in contenders(only):
    print(f"{model.name}: {contender.name}", file=sys.stderr, flush=True)
    cost, compiled = program.measure(contender, model)
    rows[contender.name] = {"gradients": contender.gradients, **cost._asdict()}
    if rounds:
      runs[contender.name] = timing.make_run(contender, model, compiled)
  if rounds:
    for name, ratio in timing.interleave(runs, rounds).items():
      rows[name]["time"] = ratio._asdict()
  return {"model": model.name, "num_params": program.num_params(model), "rows": rows}
