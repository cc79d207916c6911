"""Overrides of a config by flags, and errors of one line."""

import contextlib
import io
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import tyro

from experiments.config import Refusal


class Help(io.StringIO):
  """Collects the help that tyro prints, in colours if the terminal has them."""

  def __init__(self):
    super().__init__()
    self.isatty, self.own_encoding = sys.stdout.isatty, sys.stdout.encoding

  @property
  def encoding(self):
    return self.own_encoding


def parse(kind: Any, arguments: Sequence[str], prog: str, default: Any = None) -> Any:
  """Builds ``kind`` from flags and ``default``; flags that do not fit are refused in one line."""
  options = {} if default is None else {"default": default}
  errors, printed = io.StringIO(), Help()
  try:
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(printed):
      return tyro.cli(
        kind,
        args=list(arguments),
        prog=prog,
        use_underscores=True,  # as in files, messages, and settings after a name
        config=(tyro.conf.AvoidSubcommands,),
        **options,
      )
  except ValueError as error:  # raised by a check of the option itself
    raise Refusal(f"{error} (see {prog} --help)") from None
  except SystemExit as exited:
    if not exited.code:
      usage, _, rest = printed.getvalue().partition("\n")
      print(textwrap.fill(usage, 80, subsequent_indent=7 * " "), rest, sep="\n", end="")
      raise
    raise Refusal(one_line(errors.getvalue(), prog)) from None


def one_line(box: str, prog: str) -> str:
  """The first paragraph of tyro's framed message, and the nearest flag where it names one."""
  lines = [re.sub(r"^[│|]|[│|]$", "", line).strip() for line in box.splitlines()]
  rules = [i for i, line in enumerate(lines) if re.fullmatch(r"[─╭╮╰╯├┤ -].*[─╮╯┤-]", line)]
  first = lines[rules[0] + 1 : rules[1]] if len(rules) > 1 else lines
  near = [lines[i + 1] for i, line in enumerate(lines) if line.startswith("Perhaps you meant")]
  meant = f" (did you mean {near[0].split()[0]}?)" if near and near[0] else ""
  return f"{' '.join(' '.join(first).split())}{meant} (see {prog} --help)"
