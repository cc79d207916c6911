"""Trains, compares and measures; every command explains itself with --help.

Every day:
  python -m experiments list [configs|methods|bases|models|data]
  python -m experiments train CONFIG --run_dir DIR [--method NAME]
  python -m experiments compare CONFIG --methods sgd sam --seeds 3 --out DIR

Other comparisons:
  python -m experiments lifelong CONFIG --methods sgd sam --tasks 5 --out DIR
  python -m experiments fine-tune DIR --data NAME --out DIR
  python -m experiments speed-up DIR DIR ... --out DIR
  python -m experiments frontier DIR DIR ... --out DIR
  python -m experiments forgetting DIR DIR ... --out DIR
  python -m experiments correlate DIR DIR ... --out DIR
  python -m experiments demo

What was trained, measured and drawn again:
  python -m experiments sharpness RUN_DIR
  python -m experiments noise DIR
  python -m experiments quantise DIR
  python -m experiments report DIR

A config's own flags: python -m experiments train CONFIG --help
Completion by the tab key: python -m experiments completion bash FILE
Methods, models, data and configs of your own: --import MODULE with any of these
"""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.commands.plugins import import_plugins, split_imports
from experiments.config import Refusal, files
from experiments.config.flags import parse
from experiments.config.packages import INSTALL
from experiments.config.registry import unknown

PROG = "python -m experiments"

# A command's module is imported when it is used, so that other commands need not its packages.
COMMANDS = {
  "list": "List",
  "train": "Train",
  "compare": "Compare",
  "lifelong": "Lifelong",
  "fine-tune": "FineTune",
  "speed-up": "SpeedUp",
  "frontier": "Frontier",
  "forgetting": "Forgetting",
  "correlate": "Correlate",
  "sharpness": "Sharpness",
  "noise": "Noise",
  "quantise": "Quantise",
  "report": "Report",
  "demo": "Demo",
  "completion": "Completion",
}


def command_type(name: str) -> type:
  """The dataclass of a command's flags, which runs it."""
  module = importlib.import_module(f"experiments.commands.{name.replace('-', '_')}")
  return getattr(module, COMMANDS[name])


def paths_of(command: object) -> list[Path]:
  """The directories that a command is given."""
  given = [x if isinstance(x, tuple) else (x,) for x in vars(command).values()]
  return [x for each in given for x in each if isinstance(x, Path)]


def main(arguments: Sequence[str]) -> int:
  """Runs a command; returns the exit code: 0, 2 for a refusal, 128 + N for signal N."""
  name = "experiments"
  try:
    modules, arguments = split_imports(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
      print(__doc__)
      return 0 if arguments else 2
    name, *flags = arguments
    if name not in COMMANDS:
      raise Refusal(unknown("command", name, COMMANDS))
    print(f"{PROG} {name}: loading JAX", flush=True)  # which takes seconds
    from experiments.commands.config_first import parse_with_config

    import_plugins(modules)
    kind = command_type(name)
    if "config" in kind.__dataclass_fields__:
      command = parse_with_config(kind, f"{PROG} {name}", flags)
    else:
      command = parse(kind, flags, f"{PROG} {name}")
    # The lines of a redirected log are not cut, but tables keep to their own width.
    width = None if sys.stdout.isatty() else 1000
    with files.doubting(paths_of(command)):
      command.run(Console(markup=False, width=width))
  except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] in ("", "experiments", "flatopt"):
      raise
    print(f"{PROG}: {name} needs the package {error.name}: {INSTALL} experiments", file=sys.stderr)
    return 2
  except BrokenPipeError:  # as of `| head`
    return 128 + signal.SIGPIPE
  except (Refusal, OSError) as error:
    print(f"{PROG}: {error}", file=sys.stderr)
    return getattr(error, "code", 2)
  except KeyboardInterrupt:
    print(f"{PROG}: interrupted", file=sys.stderr)
    return 128 + signal.SIGINT
  return 0


def run_program() -> None:
  code = main(sys.argv[1:])
  with contextlib.suppress(BrokenPipeError):
    sys.stdout.flush()
  sys.stderr.flush()
  if code:
    os._exit(code)  # threads that still run would print tracebacks below the error's one line
