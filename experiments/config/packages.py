"""Packages that only some users need."""

import importlib.util
from collections.abc import Iterable

INSTALL = 'pip install -c constraints.txt -e ".[experiments]"'  # in a clone


def missing_packages(names: Iterable[str]) -> str | None:
  """What is not installed of packages to import, as a sentence's end; ``None`` where all are."""
  missing = [name for name in names if importlib.util.find_spec(name) is None]
  return f"the package {', '.join(missing)}: {INSTALL}" if missing else None
