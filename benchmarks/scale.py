"""Memory and communication of every method for a Llama with 8 billion params on 64 devices.

    python -m benchmarks.scale                    # writes the tables to benchmarks/SCALE.md
    python -m benchmarks.scale --only sam ire     # prints them
    python -m benchmarks.scale --size small --devices 8

The programs are compiled ahead of time for virtual devices, from shapes only, so it runs on any
machine.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from benchmarks import report

PAGE = pathlib.Path("benchmarks/SCALE.md")
LAYOUTS = {"FSDP": 1, "FSDP and tensor parallelism": 8}  # how many devices share a product
COLUMNS = (
  "method",
  "passes",
  "arguments",
  "temporary",
  "above base, in params",
  "all-gather",
  "all-reduce",
  "other",
  "arrays beyond the passes",
  "scalars",
)


def rows(devices: int, model_parallel: int, size: str, only: list[str] | None) -> list[Any]:
  """Measures the methods in another process, because JAX fixes its number of devices at start."""
  flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
  command = [sys.executable, "-m", "benchmarks.sharded", "--size", size]
  command += ["--model-parallel", str(model_parallel)]
  command += ["--only", *only] if only else []
  measured = []
  environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout is not None
    for line in process.stdout:
      measured.append(json.loads(line))
      print(f"compiled {measured[-1]['name']}", file=sys.stderr, flush=True)
  if process.returncode:
    raise SystemExit(f"scale: {' '.join(command)} failed")
  return measured


def markdown(title: str, measured: list[Any]) -> str:
  """Makes the table of one layout."""
  base = measured[0]
  lines = []
  for row in measured:
    arrays = dict(row["arrays"])
    gather, reduce = arrays.pop("all-gather", 0), arrays.pop("all-reduce", 0)
    above = (row["temp_bytes"] - base["temp_bytes"]) / row["params_bytes"]
    beyond = ", ".join(f"{kind} {in_bytes(n)}" for kind, n in row["beyond_passes"].items())
    cells = [
      row["name"],
      passes(row["passes"]),
      in_bytes(row["argument_bytes"]),
      in_bytes(row["temp_bytes"]),
      f"{above:.2f}",
      in_bytes(gather),
      in_bytes(reduce),
      in_bytes(sum(arrays.values())),
      beyond or "none",
      str(row["scalars"]),
    ]
    lines.append(cells)
  return f"### {title}\n\n{report.table(COLUMNS, lines)}\n"


def passes(counts: dict[str, int]) -> str:
  """Returns ``2 g + 1 s`` for 2 gradients and 1 gradient with sampled labels; ``p``: products."""
  return " + ".join(f"{n} {name[0]}" for name, n in counts.items() if n)


def in_bytes(count: float) -> str:
  """Returns a number of bytes as text, with a unit."""
  for unit in ("B", "KB", "MB"):
    if count < 1000:
      return f"{count:.3g} {unit}"
    count /= 1000
  return f"{count:.2f} GB"


def main() -> None:
  parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
  parser.add_argument("--devices", type=int, default=64)
  parser.add_argument("--size", default="8b")
  parser.add_argument(
    "--only", nargs="+", metavar="NAME", help="only methods whose names begin with NAME"
  )
  arguments = parser.parse_args()
  tables = []
  for layout, model_parallel in LAYOUTS.items():
    measured = rows(arguments.devices, model_parallel, arguments.size, arguments.only)
    mesh = f"{arguments.devices // model_parallel} by {model_parallel}"
    tables.append(markdown(f"{layout}: {mesh} devices", measured))
    print(tables[-1], flush=True)
  if arguments == parser.parse_args([]):
    report.replace_part(PAGE, "python -m benchmarks.scale", "\n".join(tables))


if __name__ == "__main__":
  main()
