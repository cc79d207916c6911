"""A section of a report."""

from typing import NamedTuple

from rich.table import Table


class Section(NamedTuple):
  html: list[str]
  tables: list[Table]  # for the terminal


NOTHING = Section([], [])
