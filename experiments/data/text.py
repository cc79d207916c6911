"""Text as windows of tokens: bytes, or byte-pair encoding trained on the text itself.

Tokens are written once a corpus, tokenizer and split, to files that windows are read from.
"""

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers

from experiments.config import files
from experiments.data.corpora import Corpus, directory_of_text, python_library

END_OF_DOCUMENT = "<|endoftext|>"
COUNT = np.dtype("<u8")  # behind the tokens of a file: their number of bytes
# Every evaluation asks for its corpus again; files do not change while a program runs.
library, text_of = functools.cache(python_library), functools.cache(directory_of_text)
LEARNED_FROM = 2**30  # bytes: an encoding learned from more is hardly another, and takes the memory


class Tokenizer(Protocol):
  name: str
  vocab_size: int

  def encode(self, documents: Iterable[bytes]) -> Iterator[np.ndarray]:
    """The tokens of each document, with one for its end behind them."""
    ...


class ByteTokenizer:
  """A token a byte, and 256 for the end of a document."""

  name = "bytes"
  vocab_size = 257

  def encode(self, documents):
    for document in documents:
      yield np.append(np.frombuffer(document, np.uint8).astype(np.uint16), np.uint16(256))


class BpeTokenizer:
  """Byte-level byte-pair encoding; bytes that are no UTF-8 are replaced."""

  def __init__(self, path: Path, vocab_size: int):
    self.name = path.stem
    self.vocab_size = vocab_size
    with files.reading(path):
      self.model = tokenizers.Tokenizer.from_str(json.dumps(files.read_json(path)))
    self.end = self.model.token_to_id(END_OF_DOCUMENT)

  def encode(self, documents):
    texts = (document.decode(errors="replace") for document in documents)
    while batch := list(itertools.islice(texts, 1000)):
      for encoding in self.model.encode_batch_fast(batch):
        yield np.array([*encoding.ids, self.end], np.uint32)


@dataclasses.dataclass(frozen=True)
class Windows:
  """{"tokens": (length + 1,) int32}: consecutive windows, each token predicted once.

  Read from the file one by one: nothing is held, and worker processes are handed no data.
  """

  path: Path
  dtype: Any
  length: int

  def __len__(self) -> int:
    tokens = (self.path.stat().st_size - COUNT.itemsize) // np.dtype(self.dtype).itemsize
    return max(0, tokens - 1) // self.length

  def __getitem__(self, index) -> dict[str, np.ndarray]:
    if not 0 <= index < len(self):
      raise IndexError(f"window {index} of {len(self)}")
    offset = int(index) * self.length * np.dtype(self.dtype).itemsize
    tokens = np.fromfile(self.path, self.dtype, self.length + 1, offset=offset)
    return {"tokens": tokens.astype(np.int32)}


def texts_to_learn_from(corpus: Corpus) -> Iterator[str]:
  read = 0
  for document in corpus.documents("train"):
    if read >= LEARNED_FROM:
      return
    read += len(document)
    yield document.decode(errors="replace")


def cache_of(corpus: Corpus) -> Path:
  root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  return root / "flatopt-experiments" / f"{corpus.name}-{corpus.fingerprint}"


def learned_bpe(corpus: Corpus, vocab_size: int) -> BpeTokenizer:
  """The encoding of the training split, from the cache where it is there."""
  path = cache_of(corpus) / f"bpe-{vocab_size}.json"
  if not path.exists():
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
      vocab_size=vocab_size,
      special_tokens=[END_OF_DOCUMENT],
      initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
      show_progress=False,
    )
    model.train_from_iterator(texts_to_learn_from(corpus), trainer)
    files.write_json(path, json.loads(model.to_str()))
  return BpeTokenizer(path, vocab_size)


def is_whole(path: Path) -> bool:
  """Whether a file of tokens is there and ends with the number of bytes before its end."""
  if not path.exists():
    return False
  size = max(0, path.stat().st_size - COUNT.itemsize)
  return np.fromfile(path, COUNT, offset=size).tolist() == [size]


def token_windows(corpus: Corpus, split: str, *, length: int, vocab_size: int | None) -> Windows:
  """The windows of a split; ``vocab_size`` None is bytes, a number is byte-pair encoding."""
  tokenizer = learned_bpe(corpus, vocab_size) if vocab_size else ByteTokenizer()
  dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
  path = cache_of(corpus) / f"{tokenizer.name}-{split}.tokens"
  if not is_whole(path):
    with files.written_whole(path) as draft, open(draft, "wb") as file:
      for tokens in tokenizer.encode(corpus.documents(split)):
        file.write(tokens.astype(dtype).tobytes())
      file.write(COUNT.type(file.tell()).tobytes())
  windows = Windows(path, dtype, length)
  if len(windows) < 1:
    raise ValueError(
      f"{corpus.name}: its split {split!r} is shorter than a window of {length} tokens; documents"
      " are held out whole, so it takes more of them"
    )
  return windows


def standard_library(split: str, *, length: int, vocab_size: int | None = None) -> Windows:
  return token_windows(library(), split, length=length, vocab_size=vocab_size)


def text_files(
  split: str, *, directory: str, length: int, vocab_size: int | None = None
) -> Windows:
  return token_windows(text_of(directory), split, length=length, vocab_size=vocab_size)
