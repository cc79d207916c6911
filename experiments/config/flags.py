"""Overrides of a config by flags, and errors of one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from experiments.config import Refusal


def parse(kind: Any, arguments: Sequence[str], prog: str, default: Any = None) -> Any:
  """``kind`` from flags, over ``default``; what does not fit is refused in one line."""
  options = {} if default is None else {"default": default}
  said = io.StringIO()
  try:
    with contextlib.redirect_stderr(said):
      return tyro.cli(
        kind,
        args=list(arguments),
        prog=prog,
        config=(tyro.conf.AvoidSubcommands,),
        **options,
      )
  except ValueError as error:  # of an option's own check, which tyro words only below a config
    raise Refusal(f"{error} (see {prog} --help)") from None
  except SystemExit as left:
    if not left.code:
      raise
    raise Refusal(one_line(said.getvalue(), prog)) from None


def one_line(box: str, prog: str) -> str:
  """The first paragraph of tyro's framed message."""
  lines = [re.sub(r"^[│|]|[│|]$", "", line).strip() for line in box.splitlines()]
  rules = [i for i, line in enumerate(lines) if re.fullmatch(r"[─╭╮╰╯├┤ -].*[─╮╯┤-]", line)]
  first = lines[rules[0] + 1 : rules[1]] if len(rules) > 1 else lines
  return f"{' '.join(' '.join(first).split())} (see {prog} --help)"
