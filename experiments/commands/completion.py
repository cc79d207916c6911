"""Completion of commands and flags by the tab key."""

import contextlib
import dataclasses
import functools
import operator
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from experiments.commands import program
from experiments.commands.config_first import with_default
from experiments.config.flags import parse
from experiments.presets import CONFIGS


@dataclasses.dataclass(frozen=True)
class Completion:
  """Writes the tab completion of `alias experiments='python -m experiments'`."""

  shell: tyro.conf.Positional[Literal["bash", "zsh", "tcsh"]]
  file: tyro.conf.Positional[Path]  # which the shell's own configuration sources

  def run(self, console: Console) -> None:
    commands = functools.reduce(operator.or_, map(described, program.COMMANDS))
    flags = "--tyro-write-completion", self.shell, str(self.file)
    with contextlib.suppress(SystemExit):
      parse(commands, flags, "experiments")
    console.print(f"{self.file} is written")


def described(name: str) -> object:
  kind = program.command_type(name)
  if "config" not in kind.__dataclass_fields__:
    return Annotated[kind, tyro.conf.subcommand(name)]
  default = with_default(kind, next(iter(CONFIGS.values())))
  return Annotated[kind, tyro.conf.subcommand(name, default=default)]
