"""JSON and CSV files that are written completely or not at all, and the versions of packages."""

import contextlib
import csv
import json
import math
import platform
import uuid
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from experiments.config import Refusal

PACKAGES = {"flatopt", "jax", "jaxlib", "optax", "flax", "grain", "orbax-checkpoint"}


def versions() -> dict[str, str]:
  found = {d.name: d.version for d in distributions() if d.name in PACKAGES}
  return {"python": platform.python_version()} | found


def finite(x) -> float | None:
  """``x``, or None for NaN and infinity, which JSON lacks."""
  return float(x) if math.isfinite(x) else None


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
  """A draft that replaces ``path`` when it is complete: a kill leaves no half-written file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.draft")  # others may write it too
  try:
    yield draft
    draft.replace(path)
  finally:
    draft.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
  with written_whole(path) as draft:
    draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
  """One line a row, with every column that any row has."""
  with written_whole(path) as draft, open(draft, "w", newline="") as file:
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)


def read_json(path: Path) -> Any:
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise Refusal(f"{path} is not JSON: {error}") from error
