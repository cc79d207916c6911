"""What every method costs over its base optimizer, beside peers.

python -m benchmarks                                  # everything; writes benchmarks/RESULTS.md
python -m benchmarks --no-time --models mlp llama     # flops, bytes and memory only: no noise
python -m benchmarks --only sam ire --models mlp --rounds 5
"""

import argparse

from benchmarks import steps
from benchmarks.models import MODELS


def parse_arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks",
    description="What every method costs over its base optimizer, beside peers.",
  )
  parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
  parser.add_argument("--only", nargs="+", metavar="NAME", help="methods that begin so")
  parser.add_argument("--rounds", type=int, default=9, help="interleaved runs of each method")
  parser.add_argument("--no-time", action="store_true", help="exact columns only")
  return parser.parse_args()


def main() -> None:
  arguments = parse_arguments()
  rounds = 0 if arguments.no_time else arguments.rounds
  for name in arguments.models:
    table = steps.measure(MODELS[name], arguments.only, rounds, progress=True)
    print(steps.markdown(table), flush=True)


if __name__ == "__main__":
  main()
