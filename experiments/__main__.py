"""The experiments' commands; each explains itself with --help.

  python -m experiments list
  python -m experiments train CONFIG --run-dir DIR [--method NAME] [--opt.rho 0.1 ...]
  python -m experiments compare CONFIG --methods sgd sam rst --seeds 3 --gradients 2000 --out DIR
  python -m experiments lifelong CONFIG --methods sgd sam --tasks 5 --gradients 400 --out DIR
  python -m experiments speed-up DIR DIR ... --out DIR
  python -m experiments sharpness RUN_DIR
  python -m experiments noise DIR
  python -m experiments report DIR
  python -m experiments demo

A config's own flags: python -m experiments train CONFIG --help
"""

import argparse
import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments import configs
from experiments.command_line import parse
from experiments.config import Config, Inline, Refusal
from experiments.measure import Noise, Sharpness

PROG = "python -m experiments"


@dataclasses.dataclass(frozen=True)
class List:
  """Every config below its data, with what a run costs."""

  def run(self, console: Console) -> None:
    by_data: dict[str, list[Config]] = {}
    for config in configs.CONFIGS.values():
      by_data.setdefault(config.data.set.about, []).append(config)
    header = "{:<29}{:<18}{:<10}{:>9}{:>8}{:>6}".format  # 80 columns
    say = functools.partial(console.print, highlight=False, soft_wrap=True)
    say(header("config", "model", "method", "gradients", "steps", "batch"), style="dim")
    for about, found in by_data.items():
      say(f"\n{about}", style="bold")
      for config in found:
        kind, method = type(config.model).__name__, configs.method_name(config)
        cost = (f"{x:,}" for x in (config.gradients(), config.steps(), config.data.batch_size))
        say(header(config.name, kind, method, *cost))


@dataclasses.dataclass(frozen=True)
class Train:
  """Trains a config, from its last checkpoint where there is one."""

  config: Annotated[Config, Inline]
  run_dir: Path  # holds all of the run
  method: str | None = None  # instead of the config's own
  distributed: bool = False  # this is one of several processes, which clusters tell JAX of;
  coordinator_address: str | None = None  # elsewhere, the first one's HOST:PORT,
  num_processes: int | None = None  # how many there are,
  process_id: int | None = None  # and which this is

  def run(self, console: Console) -> None:
    if self.distributed:
      import jax

      try:
        jax.distributed.initialize(self.coordinator_address, self.num_processes, self.process_id)
      except (ValueError, RuntimeError) as error:
        raise Refusal(f"--distributed: {error}") from error
    from experiments import run

    console.print(run.sentence(run.train(self.config, self.run_dir, console)))


@dataclasses.dataclass(frozen=True)
class Compare:
  """Trains methods times seeds at an equal budget, and reports; goes on where it was."""

  config: Annotated[Config, Inline]
  out: Path  # holds every run, and the report
  methods: tuple[str, ...]  # the others are compared with the first
  seeds: int = 3
  trials: int = 4  # of tuning, for every method; 0 takes the config's settings
  gradients: int | None = None  # that every run pays; else the config's budget,
  steps: int | None = None  # or steps that every run takes,
  seconds: int | None = None  # or about the seconds that its steps take on this machine

  def run(self, console: Console) -> None:
    from experiments import comparison, report

    amounts = {unit: getattr(self, unit) for unit in ("gradients", "steps", "seconds")}
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    training = self.config.training
    (unit, amount), *others = given.items() or [(training.unit, training.budget)]
    if others or amount < 1 or self.seeds < 1 or self.trials < 0:
      raise Refusal(
        "compare wants one of --gradients, --steps, --seconds, of 1 at least, and --seeds 1 and"
        " --trials 0 at least"
      )
    compared = comparison.Comparison(
      self.config, self.methods, self.seeds, self.trials, unit, amount
    )
    comparison.compare(compared, self.out, console)
    report.write(self.out, console)


@dataclasses.dataclass(frozen=True)
class Lifelong:
  """Trains methods on one task of classes after another, and reports what they forget."""

  config: Annotated[Config, Inline]
  out: Path  # holds every run, and the report
  methods: tuple[str, ...]  # the others are compared with the first
  tasks: int = 5  # that the classes are dealt to
  replay: int = 0  # examples of earlier tasks in memory; half of all draws are from them
  seeds: int = 3
  gradients: int | None = None  # that every task pays; else the config's budget,
  steps: int | None = None  # or steps that every task takes

  def run(self, console: Console) -> None:
    from experiments import lifelong, report

    amounts = {unit: getattr(self, unit) for unit in ("gradients", "steps")}
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    training = self.config.training
    (unit, amount), *others = given.items() or [(training.unit, training.budget)]
    if others:
      raise Refusal("lifelong wants one of --gradients, --steps")
    compared = lifelong.LifelongComparison(
      self.config, self.methods, self.seeds, self.tasks, self.replay, unit, amount
    )
    lifelong.learn(compared, self.out, console)
    report.write(self.out, console)


@dataclasses.dataclass(frozen=True)
class SpeedUp:
  """Steps that methods save, from finished comparisons that differ in --steps."""

  directories: tyro.conf.Positional[tuple[Path, ...]]
  out: Path  # holds the report
  reference: str = "adamw"  # compared at two numbers of steps at least

  def run(self, console: Console) -> None:
    from experiments import report, speed_up

    speed_up.measure(self.directories, self.reference, self.out)
    report.write(self.out, console)


@dataclasses.dataclass(frozen=True)
class Report:
  """Tables and figures of a run or a comparison, drawn again from its files."""

  directory: tyro.conf.Positional[Path]

  def run(self, console: Console) -> None:
    from experiments import report

    report.write(self.directory, console)


@dataclasses.dataclass(frozen=True)
class Demo:
  """Eleven methods on digits with wrong labels, at equal gradients: what `make demo` runs."""

  out: Path = Path("runs/demo")
  gradients: int = configs.CONFIGS["demo"].training.budget  # of every run
  seconds: float = 260  # about how long it may take

  def run(self, console: Console) -> None:
    from experiments.demo import comparison

    comparison.run(self.out, self.gradients, self.seconds, console)


def parse_with_config(kind: type, name: str, arguments: Sequence[str]) -> Any:
  """The config that comes first gives the flags behind it their types and defaults."""
  missing = {f.name: tyro.MISSING for f in dataclasses.fields(kind) if _is_required(f)}
  names = ", ".join(configs.CONFIGS)
  if {"-h", "--help"} & set(arguments[:1]):
    first = next(iter(configs.CONFIGS.values()))
    print(f"A config comes first, here {first.name}; others are {names}.")
    return parse(
      kind, arguments, f"{PROG} {name} {first.name}", kind(**missing | {"config": first})
    )
  if not arguments or arguments[0].startswith("-"):
    raise Refusal(f"{name} wants a config first: one of {names}")
  chosen, *flags = arguments
  method = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  method.add_argument("--method", nargs="?")
  config = configs.find(chosen, method.parse_known_args(flags)[0].method)
  return parse(kind, flags, f"{PROG} {name} {chosen}", kind(**missing | {"config": config}))


def _is_required(field: dataclasses.Field) -> bool:
  return field.default is dataclasses.MISSING


COMMANDS = {
  "list": List,
  "train": Train,
  "compare": Compare,
  "lifelong": Lifelong,
  "speed-up": SpeedUp,
  "sharpness": Sharpness,
  "noise": Noise,
  "report": Report,
  "demo": Demo,
}


def main(arguments: Sequence[str]) -> int:
  """The exit code: 0, 2 for what is refused, 128 + N for signal N."""
  if not arguments or arguments[0] in ("-h", "--help"):
    print(__doc__)
    return 0 if arguments else 2
  name, *flags = arguments
  try:
    if name not in COMMANDS:
      raise Refusal(f"unknown command {name}: choose from {', '.join(COMMANDS)}")
    kind = COMMANDS[name]
    if kind in (Train, Compare, Lifelong):
      command = parse_with_config(kind, name, flags)
    else:
      command = parse(kind, flags, f"{PROG} {name}")
    command.run(Console())
  except (Refusal, OSError) as error:
    print(f"{PROG}: {error}", file=sys.stderr)
    return getattr(error, "code", 2)
  except KeyboardInterrupt:
    print(f"{PROG}: interrupted", file=sys.stderr)
    return 128 + signal.SIGINT
  return 0


if __name__ == "__main__":
  code = main(sys.argv[1:])
  sys.stdout.flush()
  sys.stderr.flush()
  if code:
    os._exit(code)  # threads that an error left behind would print tracebacks under the one line
