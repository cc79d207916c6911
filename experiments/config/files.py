"""JSON files that are whole or not there, and the versions that belong in them."""

import csv
import json
import math
import platform
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from experiments.config import Refusal

PACKAGES = {"flatopt", "jax", "jaxlib", "optax", "flax", "grain", "orbax-checkpoint"}


def versions() -> dict[str, str]:
  found = {d.name: d.version for d in distributions() if d.name in PACKAGES}
  return {"python": platform.python_version()} | found


def finite(x) -> float | None:
  """``x`` as JSON can hold it, which has neither NaN nor infinity."""
  return float(x) if math.isfinite(x) else None


def write_json(path: Path, content: Any) -> None:
  """All of it or nothing: neither a kill nor a full disk leaves half a file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(path.name + ".draft")
  try:
    draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    draft.replace(path)
  except OSError:
    draft.unlink(missing_ok=True)
    raise


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
  """A line a row, all columns that any has; as whole as ``write_json``."""
  draft = path.with_name(path.name + ".draft")
  with open(draft, "w", newline="") as file:
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
  draft.replace(path)


def read_json(path: Path) -> Any:
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise Refusal(f"{path} is not JSON: {error}") from error
