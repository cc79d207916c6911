"""Text as documents, and which of them are held out.

A document's split is a function of its name alone: no seed, and a new file moves no other. Where
files are named for a split, as wikitext-103's and minipile's are, these names decide, and files
that are named for none, such as a README, are not read.
"""

import gzip
import hashlib
import json
import lzma
import re
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config import files

VALIDATION_SHARE = 0.05
PIECE = 2**16  # bytes of a file that is a corpus alone
SPLIT_WORDS = {
  "train": "train",
  "valid": "validation",
  "val": "validation",
  "validation": "validation",
  "dev": "validation",
  "test": "test",
}
# Tests and installed packages differ from one machine to the next.
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


class Corpus(NamedTuple):
  name: str
  fingerprint: str  # another one when files have changed
  documents: Callable[[str], Iterator[bytes]]  # of a split, in a fixed order


def held_out(document_name: str) -> str:
  """``validation`` for a fixed share of all names, ``train`` for the others."""
  digest = hashlib.sha256(document_name.encode()).digest()
  share = int.from_bytes(digest[:8], "big") / 2**64
  return "validation" if share < VALIDATION_SHARE else "train"


def published_split(file_name: str) -> str | None:
  """The split that a file's name says it is of."""
  words = re.split(r"[^a-z]+", file_name.lower())
  return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def read_documents(path: Path) -> Iterator[bytes]:
  """A .jsonl's or .parquet's field "text", a tar's members, else the file; .gz, .dz, .xz opened."""
  suffix, compression = path.suffix, None
  if suffix in {".gz", ".dz", ".xz"}:
    suffix, compression = Path(path.stem).suffix, lzma.open if suffix == ".xz" else gzip.open
  with files.reading(path, "get it anew, or take it away"):
    if path.suffix == ".parquet":
      import pyarrow.parquet  # half a second, which no other format should wait

      for rows in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["text"]):
        yield from map(encoded, rows.column("text").to_pylist())
    elif (compression or suffix == ".tar") and tarfile.is_tarfile(path):
      with tarfile.open(path) as archive:
        yield from (archive.extractfile(member).read() for member in archive if member.isfile())
    else:
      with (compression or open)(path, "rb") as file:
        if suffix == ".jsonl":
          rows = map(json.loads, file)
          yield from (encoded(row.get("text") if isinstance(row, dict) else None) for row in rows)
        else:
          yield file.read()


def encoded(text: Any) -> bytes:
  if not isinstance(text, str):
    raise TypeError("a row without a text in its field text")
  return text.encode()


def pieces(document: bytes) -> Iterator[bytes]:
  """A document cut by position: each byte is in one piece, and a piece in one split."""
  for start in range(0, len(document), PIECE):
    yield document[start : start + PIECE]


def corpus_of_file(path: Path) -> Corpus:
  """A file alone, whose documents are cut in pieces of 64 KiB, of which some are held out.

  Cuts fall anywhere, within a word or an entry: neighbours may be of different splits.
  """
  stat = path.stat()
  said = f"{VALIDATION_SHARE} {PIECE} {path.name} {stat.st_size} {stat.st_mtime_ns}"

  def documents(split):
    whole = read_documents(path)
    for index, piece in enumerate(piece for document in whole for piece in pieces(document)):
      if held_out(f"{path.name}:{index}") == split:
        yield piece

  return Corpus(path.name, hashlib.sha256(said.encode()).hexdigest()[:12], documents)


def corpus_of_files(name: str, root: Path, paths: list[Path], by_name: bool) -> Corpus:
  """``by_name``: whether file names may tell the split."""
  stats = [(path, path.relative_to(root).as_posix(), path.stat()) for path in paths]
  digest = hashlib.sha256(f"{VALIDATION_SHARE} {by_name}\n".encode())
  for _, relative, stat in stats:
    digest.update(f"{relative} {stat.st_size} {stat.st_mtime_ns}\n".encode())
  published = [published_split(path.name) if by_name else None for path in paths]

  def documents(split):
    for (path, relative, _), file_split in zip(stats, published, strict=True):
      if any(published):
        if file_split == split:
          yield from read_documents(path)
      else:
        for index, document in enumerate(read_documents(path)):
          if held_out(f"{relative}:{index}") == split:
            yield document

  return Corpus(name, digest.hexdigest()[:12], documents)


def python_library() -> Corpus:
  """The Python sources of the running interpreter's standard library: 10 MB or so, anywhere."""
  root = Path(sysconfig.get_path("stdlib"))
  paths = sorted(
    path for path in root.rglob("*.py") if not NOT_THE_LIBRARY & set(path.relative_to(root).parts)
  )
  return corpus_of_files("standard-library", root, paths, by_name=False)


def directory_of_text(directory: str) -> Corpus:
  """All files under a directory: a document each, or one a row in .jsonl, .parquet and tars.

  So wikitext-103's ``wiki.*.tokens``, minipile's parquet and openwebtext's ``*.xz`` are read as
  they are. One file in place of a directory is cut in pieces, as ``corpus_of_file`` says.
  """
  root = Path(directory).expanduser()
  if root.is_file():
    return corpus_of_file(root)
  found = sorted(path for path in root.rglob("*") if path.is_file())
  paths = [path for path in found if not path.name.startswith(".")]
  if not paths:
    raise FileNotFoundError(f"text files: there are none under {root} (--data.directory)")
  return corpus_of_files(root.name, root, paths, by_name=True)
