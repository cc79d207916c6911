"""The table of one model: what a step of every contender costs, exactly and in time."""

import sys
from typing import Any

from benchmarks import program, timing
from benchmarks.contenders import contenders
from benchmarks.models import Model

COLUMNS = (
  "method",
  "time / base",
  "interval",
  "gradients",
  "flops / base",
  "bytes accessed / base",
  "temporary MB",
  "above base, in params",
  "state bytes a param",
  "compile s",
)


def measure(
  model: Model, only: list[str] | None = None, rounds: int = 9, *, progress: bool = False
) -> dict[str, Any]:
  """``{"model", "params", "rows"}``; no times where ``rounds`` is 0."""
  rows: dict[str, dict[str, Any]] = {}
  runs = {}
  for contender in contenders(only):
    if progress:
      print(f"{model.name}: {contender.name}", file=sys.stderr, flush=True)
    cost, compiled = program.measure(contender, model)
    rows[contender.name] = {"gradients": contender.gradients, **cost._asdict()}
    if rounds:
      runs[contender.name] = timing.make_run(contender, model, compiled)
  for name, ratio in timing.interleave(runs, rounds).items() if rounds else ():
    rows[name] |= {"time": ratio._asdict()}
  params, _ = program.shapes(contenders([])[0], model)
  return {"model": model.name, "params_bytes": program.tree_bytes(params), "rows": rows}


def markdown(table: dict[str, Any]) -> str:
  base, size = table["rows"]["base"], table["params_bytes"]
  lines = [
    f"### {table['model']}: {size // 4:,} params",
    "",
    "| " + " | ".join(COLUMNS) + " |",
    "|---" + "|---:" * (len(COLUMNS) - 1) + "|",
  ]
  for name, row in table["rows"].items():
    time = row.get("time")
    cells = [
      name,
      f"{time['median']:.2f}" if time else "",
      f"{time['low']:.2f} to {time['high']:.2f}" if time else "",
      f"{row['gradients']:g}",
      ratio(row["flops"], base["flops"]),
      ratio(row["bytes_accessed"], base["bytes_accessed"]),
      "" if row["temp_bytes"] is None else f"{row['temp_bytes'] / 1e6:.2f}",
      copies_above(row, base, size),
      f"{4 * (row['state_bytes'] - base['state_bytes']) / size:.2f}",
      f"{row['compile_seconds']:.1f}",
    ]
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines) + "\n"


def ratio(value: float | None, base: float | None) -> str:
  return "" if value is None or not base else f"{value / base:.3f}"


def copies_above(row: dict[str, Any], base: dict[str, Any], params_bytes: int) -> str:
  if row["temp_bytes"] is None or base["temp_bytes"] is None:
    return ""
  return f"{(row['temp_bytes'] - base['temp_bytes']) / params_bytes:.2f}"
