"""Commands whose first argument is a config, and whose flags change that config."""

import argparse
import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

import tyro

from experiments import presets
from experiments.config import Config, Refusal
from experiments.config.flags import parse
from experiments.presets import CONFIGS

PARTS = "method", "base", "model", "data"  # of a config, which flags of these names replace


def parse_with_config(kind: type, prog: str, arguments: Sequence[str]) -> Any:
  """Reads the config's name first: the types and defaults of the flags are those of its values."""
  names = ", ".join(CONFIGS)
  if {"-h", "--help"} & set(arguments[:1]):
    first = next(iter(CONFIGS.values()))
    explanation = f"A config comes first, here {first.name}; others are {names}."
    print(textwrap.fill(explanation, 80, break_on_hyphens=False))
    return parse(kind, arguments, f"{prog} {first.name}", with_default(kind, first))
  if not arguments or arguments[0].startswith("-"):
    raise Refusal(f"{prog.split()[-1]} needs a config first: one of {names}")
  chosen, *flags = arguments
  swaps = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  for part in PARTS:
    swaps.add_argument(f"--{part}", nargs="?")
  config = presets.find(chosen, **vars(swaps.parse_known_args(flags)[0]))
  return parse(kind, flags, f"{prog} {chosen}", with_default(kind, config))


def with_default(kind: type, config: Config) -> Any:
  """A command of ``config``, whose other required flags are missing."""
  required = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
  return kind(**dict.fromkeys(required, tyro.MISSING) | {"config": config})
