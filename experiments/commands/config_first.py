"""Commands whose flags are those of a config, which comes first."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import tyro

from experiments import presets
from experiments.config import Refusal
from experiments.config.flags import parse
from experiments.presets import CONFIGS


def parse_with_config(kind: type, prog: str, arguments: Sequence[str]) -> Any:
  """The config that comes first gives the flags behind it their types and defaults."""
  missing = {f.name: tyro.MISSING for f in dataclasses.fields(kind) if _is_required(f)}
  names = ", ".join(CONFIGS)
  if {"-h", "--help"} & set(arguments[:1]):
    first = next(iter(CONFIGS.values()))
    print(f"A config comes first, here {first.name}; others are {names}.")
    return parse(kind, arguments, f"{prog} {first.name}", kind(**missing | {"config": first}))
  if not arguments or arguments[0].startswith("-"):
    raise Refusal(f"{prog.split()[-1]} wants a config first: one of {names}")
  chosen, *flags = arguments
  method = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  method.add_argument("--method", nargs="?")
  config = presets.find(chosen, method.parse_known_args(flags)[0].method)
  return parse(kind, flags, f"{prog} {chosen}", kind(**missing | {"config": config}))


def _is_required(field: dataclasses.Field) -> bool:
  return field.default is dataclasses.MISSING
