"""``python -m experiments``."""

from experiments.commands.program import run_program

if __name__ == "__main__":
  run_program()
