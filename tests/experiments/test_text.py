"""Text as tokens: nothing lost, nothing shared between splits, nothing done twice."""

import gzip
import io
import itertools
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from experiments.config import Refusal
from experiments.data import corpora, text
from experiments.data.sets import TextFiles

DOCUMENTS = {f"part{i % 7}/file{i:02}.txt": f"{i} is {i * i}.\n" * (i + 1) for i in range(60)}
END = 256


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def directory(tmp_path):
  root = tmp_path / "numbers"
  for name, content in DOCUMENTS.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
  return root


def documents(root, split):
  return [document.decode() for document in corpora.directory_of_text(str(root)).documents(split)]


def joined(windows):
  """The tokens of consecutive windows, which share one at each border."""
  parts = [windows[i]["tokens"] for i in range(len(windows))]
  for part, following in itertools.pairwise(parts):
    assert part[-1] == following[0]
  return np.concatenate([parts[0][:1], *(part[1:] for part in parts)])


def windows(root, split, vocab_size=None):
  corpus = corpora.directory_of_text(str(root))
  return text.token_windows(corpus, split, length=16, vocab_size=vocab_size)


def test_files_are_split_whole_and_once(directory):
  train, validation = documents(directory, "train"), documents(directory, "validation")
  assert sorted(train + validation) == sorted(DOCUMENTS.values())
  assert 0 < len(validation) < 12


def test_another_file_moves_no_other(directory):
  before = documents(directory, "validation")
  for i in range(20):
    (directory / f"new{i}").write_text("new")
  assert [d for d in documents(directory, "validation") if d != "new"] == before
  (directory / ".hidden").write_text("hidden")
  assert "hidden" not in documents(directory, "train") + documents(directory, "validation")


def test_published_splits_are_kept(tmp_path):
  for split in ("train", "valid", "test"):
    (tmp_path / f"wiki.{split}.tokens").write_text(split)
  (tmp_path / "README.md").write_text("of no split")
  assert documents(tmp_path, "train") == ["train"]
  assert documents(tmp_path, "validation") == ["valid"]
  assert documents(tmp_path, "test") == ["test"]


def test_a_file_alone_is_cut_in_pieces_of_which_some_are_held_out(tmp_path, monkeypatch):
  monkeypatch.setattr(corpora, "PIECE", 64)
  content = "".join(f"{i}," for i in range(2000))
  expected = [content[start : start + 64] for start in range(0, len(content), 64)]
  (tmp_path / "dictionary.dz").write_bytes(gzip.compress(content.encode()))
  (tmp_path / "index").write_text("another")
  path = tmp_path / "dictionary.dz"
  train, validation = documents(path, "train"), documents(path, "validation")
  assert sorted(train + validation) == sorted(expected)
  assert 0 < len(validation) < 0.1 * len(expected)
  order = [expected.index(piece) for piece in validation]
  assert order == sorted(order)
  assert len(windows(path, "validation")) == (65 * len(validation) - 1) // 16
  assert TextFiles(directory=str(path)).missing() is None


def test_every_format_holds_the_same_documents(tmp_path):
  texts = ["first\n", "zweite, größer\n"]
  lines = "".join(json.dumps({"text": t, "other": 1}) + "\n" for t in texts).encode()
  (tmp_path / "train.jsonl").write_bytes(lines)
  (tmp_path / "train-2.jsonl.gz").write_bytes(gzip.compress(lines))
  table = pyarrow.table({"other": [1, 2], "text": texts})
  pyarrow.parquet.write_table(table, tmp_path / "train-3.parquet")
  with tarfile.open(tmp_path / "train-4.xz", "w:xz") as archive:
    for i, t in enumerate(texts):
      member = tarfile.TarInfo(f"{i}.txt")
      member.size = len(t.encode())
      archive.addfile(member, io.BytesIO(t.encode()))
  for i, t in enumerate(texts):
    (tmp_path / f"train-5-{i}.txt.gz").write_bytes(gzip.compress(t.encode()))
  assert documents(tmp_path, "train") == texts * 5


def test_bytes_lose_nothing_but_the_last_part_of_a_window(directory):
  for split in ("train", "validation"):
    expected = [t for d in documents(directory, split) for t in (*d.encode(), END)]
    source = windows(directory, split)
    assert len(source) == (len(expected) - 1) // 16
    tokens = joined(source)
    np.testing.assert_array_equal(tokens, expected[: len(tokens)])
    assert source[0]["tokens"].shape == (17,)
    assert source[0]["tokens"].dtype == np.int32
    for index in (-1, len(source)):
      with pytest.raises(IndexError):
        source[index]


def test_bpe_says_the_same_in_fewer_tokens(directory):
  source = windows(directory, "train", vocab_size=300)
  tokens = joined(source)
  corpus = corpora.directory_of_text(str(directory))
  model = text.learned_bpe(corpus, 300).model
  end = model.token_to_id(text.END_OF_DOCUMENT)
  assert tokens.max() < 300
  decoded = "".join("\0" if t == end else model.decode([t]) for t in tokens.tolist())
  whole = "".join(d + "\0" for d in documents(directory, "train"))
  assert whole.startswith(decoded)
  assert len(whole) - len(decoded) < 16 * 20
  assert len(source) < 0.7 * len(windows(directory, "train"))


def test_what_is_cached_is_used_until_files_change(directory, monkeypatch):
  read = lambda: [windows(directory, "train", vocab_size=size) for size in (None, 300)]
  first = read()
  with monkeypatch.context() as patch:
    patch.setattr(corpora, "read_documents", None)
    assert read() == first
  (directory / "part0/file00.txt").write_text("another text")
  assert all(a != b for a, b in zip(read(), first, strict=True))


def test_a_program_walks_a_directory_once(directory, monkeypatch):
  read = lambda: text.text_files("train", directory=str(directory), length=16)
  first = read()
  monkeypatch.setattr(corpora, "corpus_of_files", None)
  assert read() == first


def test_an_interrupted_write_leaves_no_file(directory, cache, monkeypatch):
  def interrupted(self, documents):
    yield np.arange(10)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(text.ByteTokenizer, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
      windows(directory, "train")
  assert not [path for path in cache.rglob("*") if path.is_file()]
  assert len(windows(directory, "train")) > 1


def test_the_standard_library_is_there():
  corpus = corpora.python_library()
  sizes = {split: sum(map(len, corpus.documents(split))) for split in ("train", "validation")}
  assert sum(sizes.values()) > 8e6
  assert 0.02 < sizes["validation"] / sum(sizes.values()) < 0.1
  everything = b"".join(corpus.documents("train")) + b"".join(corpus.documents("validation"))
  source = (Path(os.__file__).read_bytes(), Path(json.__file__).read_bytes())
  assert all(part in everything for part in source)


def test_tokens_that_were_cut_are_made_anew(directory, cache):
  whole = joined(windows(directory, "train"))
  (path,) = cache.rglob("*train.tokens")
  path.write_bytes(path.read_bytes()[:-10])
  np.testing.assert_array_equal(joined(windows(directory, "train")), whole)


def test_texts_that_are_not_there_or_too_short(tmp_path):
  with pytest.raises(FileNotFoundError, match="there are none under"):
    corpora.directory_of_text(str(tmp_path / "none"))
  (tmp_path / "text").mkdir()
  (tmp_path / "text" / "a.txt").write_text("short")
  with pytest.raises(ValueError, match="split 'train' is shorter than a window of 16"):
    windows(tmp_path / "text", "train")
  (tmp_path / "text" / "a.txt").write_text("")  # no token but the end of a document
  with pytest.raises(ValueError, match="split 'validation' is shorter than a window of 16"):
    windows(tmp_path / "text", "validation")
  (tmp_path / "text" / "a.jsonl").write_text('{"content": "no text"}')
  with pytest.raises(Refusal, match=r"a\.jsonl is damaged \(a row without a text in its field"):
    documents(tmp_path / "text", "train")
