"""Files that are written completely or not at all, and that are refused in one line if damaged.

A JSON file carries a digest of its name and content, by which any later change is noticed.
"""

import contextlib
import csv
import functools
import hashlib
import json
import math
import platform
import uuid
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from experiments.config import Refusal, reason

PACKAGES = {"flatopt", "jax", "jaxlib", "optax", "flax", "grain", "orbax-checkpoint"}
REMEDY = "restore it, or delete it and run again the command that wrote it"


@functools.cache
def versions() -> dict[str, str]:
  found = {d.name: d.version for d in distributions() if d.name in PACKAGES}
  return {"python": platform.python_version()} | found


def finite(x) -> float | None:
  """``x``, or None for NaN and infinity, which JSON lacks."""
  return float(x) if math.isfinite(x) else None


@contextlib.contextmanager
def reading(path: Path, remedy: str = REMEDY) -> Iterator[None]:
  """Refuses ``path`` for every error of its reader, because a damaged file can raise any."""
  try:
    yield
  except Refusal:
    raise
  except Exception as error:
    if isinstance(error, OSError) and error.filename:  # it is not there, or may not be read
      raise
    raise Refusal(f"{path} is damaged ({reason(error)}): {remedy}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
  """Names ``path`` in errors of writing, which a full disk's own message does not."""
  try:
    yield
  except OSError as error:
    if error.filename:
      raise
    raise Refusal(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
  """A draft that replaces ``path`` when it is complete: a kill leaves no half-written file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.draft")  # others may write it too
  try:
    with writing(path):
      yield draft
      draft.replace(path)
  finally:
    draft.unlink(missing_ok=True)


def digest_of(*paths: Path) -> str:
  """SHA-256 of files, and of their names."""
  digest = hashlib.sha256()
  for path in paths:
    with open(path, "rb") as file:
      digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
  return digest.hexdigest()


class Fields(dict):
  """An object of a JSON file, which is refused where it lacks a field that is asked for."""

  path: Path

  def __missing__(self, name: str):
    raise Refusal(f"{self.path} has no {name}: {REMEDY}")


def from_json(path: Path, text: bytes) -> Any:
  """The value of ``text``, from the file ``path``."""

  def fields(found: dict[str, Any]) -> Fields:
    one = Fields(found)
    one.path = path
    return one

  return json.loads(text, object_hook=fields)


def write_json(path: Path, content: dict[str, Any]) -> None:
  content = {name: x for name, x in content.items() if name != "digest"}
  content["digest"] = _digest(path, content)
  with written_whole(path) as draft:
    draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
  with reading(path):
    content = from_json(path, path.read_bytes())
    if not isinstance(content, dict):
      raise ValueError(f"it is a {type(content).__name__}, not an object")
    signed = "digest" in content
    digest = content.pop("digest", None)
    if signed and digest != _digest(path, content):
      raise ValueError("it was changed; without its digest it is taken as it is")
  return content


@contextlib.contextmanager
def doubting(directories: Iterable[Path]) -> Iterator[None]:
  """Refuses the JSON files without a digest, where there are any, for errors that they may cause.

  An older version or a hand wrote them; in files with a digest everything is as it was written.
  """
  try:
    yield
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
    paths = [path for directory in directories for path in sorted(directory.glob("*.json"))]
    if not (unsigned := [str(path) for path in paths if b'"digest"' not in path.read_bytes()]):
      raise
    raise Refusal(
      f"{', '.join(unsigned)} may hold what this version cannot read ({type(error).__name__}:"
      f" {reason(error)}): {REMEDY}"
    ) from error


def _digest(path: Path, content: dict[str, Any]) -> str:
  return hashlib.sha256(f"{path.name} {json.dumps(content)}".encode()).hexdigest()


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
  """One line a row, with every column that any row has."""
  with written_whole(path) as draft, open(draft, "w", newline="") as file:
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
