"""Measures what every method costs, relative to its base optimizer, and compares it with peers.

python -m benchmarks                                  # everything; writes benchmarks/RESULTS.md
python -m benchmarks --no-time --models mlp llama     # only flops, bytes and memory, without noise
python -m benchmarks --only sam ire --models mlp --rounds 5 --no-growth

With PyTorch installed, pytorch_optimizer's counterparts of the methods are measured beside them.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import jax
import optax

from benchmarks import figures, growth, report, steps, timing, torch_peers
from benchmarks.models import MODELS

HERE = pathlib.Path(__file__).parent
PAGE = pathlib.Path("benchmarks/MEMORY.md")
PAGE_COMMAND = "python -m benchmarks --no-time --models mlp llama --docs"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks",
    description="Measures what every method costs, relative to its base optimizer.",
  )
  parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
  parser.add_argument(
    "--only", nargs="+", metavar="NAME", help="only methods whose names begin with NAME"
  )
  parser.add_argument("--rounds", type=int, default=9, help="interleaved runs of each method")
  parser.add_argument("--no-time", action="store_true", help="only the exact columns")
  parser.add_argument("--no-growth", action="store_true", help="only the tables of the models")
  parser.add_argument(
    "--docs", action="store_true", help="write exact columns to benchmarks/MEMORY.md"
  )
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    help="folder to write to; without it, only a complete run is written",
  )
  return parser.parse_args(arguments)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
  """Measures what the arguments ask for, and prints the tables."""
  rounds = 0 if arguments.no_time else arguments.rounds
  device = jax.devices()[0]
  results: dict[str, Any] = {
    "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    "versions": {"jax": jax.__version__, "optax": optax.__version__},
    "device": f"{device.device_kind} ({device.platform})",
    "rounds": rounds,
    "models": [],
  }
  for name in arguments.models:
    table = steps.measure(MODELS[name], arguments.only, rounds)
    table["torch"] = torch_peers.measure(MODELS[name], table["rows"], rounds)
    results["models"].append(table)
    print(report.model_tables(table), flush=True)
  if not rounds or arguments.no_growth:
    return results
  results["params"] = growth.with_params()
  results["k"] = growth.with_k(rounds)
  results["devices"] = growth.with_devices(rounds)
  results["selection"] = growth.of_selection()
  print(report.growth_tables(results))
  return results


def write(results: dict[str, Any], folder: pathlib.Path) -> None:
  """Writes the results, the page and the figures to a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
  (folder / "RESULTS.md").write_text(report.page(results))
  figures.draw(results, folder / "figures")


def main() -> None:
  arguments = parse_arguments()
  timing.keep_freed_memory()
  folder = arguments.out or (HERE if arguments == parse_arguments([]) else None)
  results = measure(arguments)
  if folder:
    write(results, folder)
  if arguments.docs:
    report.replace_part(PAGE, PAGE_COMMAND, report.exact_table(results["models"]))


if __name__ == "__main__":
  main()
