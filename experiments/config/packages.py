"""Packages that only some users need."""

import importlib.util
from collections.abc import Iterable

INSTALL = "pip install -c constraints.txt -e . --group"  # in a clone


def missing_packages(names: Iterable[str], group: str = "experiments") -> str | None:
  """The missing packages and how to install them; ``None`` if none is missing."""
  missing = [name for name in names if importlib.util.find_spec(name) is None]
  return f"the package {', '.join(missing)}: {INSTALL} {group}" if missing else None
