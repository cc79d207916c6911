"""A damaged file of any kind is refused in one line that names it, or read as it was.

A thousand seeded truncations, flipped bits, overwritten bytes, swaps and wrong types: two minutes.
"""

import contextlib
import gzip
import io
import itertools
import json
import lzma
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from rich.console import Console

from experiments import presets
from experiments.commands.program import main
from experiments.comparisons import equal_budgets
from experiments.comparisons.directory import to_json
from experiments.config import Refusal, files
from experiments.data.sets import IdxImages, TextFiles, TfdsImages
from experiments.plots import style
from experiments.reports import directory as reports
from experiments.reports import page
from experiments.training import batches, metric_files, run_directory
from experiments.training.checkpoints import Checkpoints
from tests.experiments.small import DIGITS, changed
from tests.experiments.test_tfds import PIXELS, FlatoptPngs, prepare, write_idx_directory

WRONG = b"", b"{}", b"[]", b"null", b"5", b'"text"', b"\xff\xfe\x00", b"[" * 10**5, b'{"type": 3}'
VALUES = None, -1, "text", [], {}, True, 1e300
RESULTS = Path(__file__).parents[2] / "experiments" / "results"


class Kind(NamedTuple):
  make: Callable[[Path], Any]
  read: Callable[[Path], Any]  # of the same directory
  exact: bool  # whether any other content has to be refused: files of data may hold anything


def make_run(root: Path) -> None:
  run_directory.write_config(root, DIGITS)
  with metric_files.Metrics.opened(root, DIGITS, 0, "", 0) as metrics:
    for step in range(1, 6):
      metrics.write("train", step, {"gradients": step, "loss": 1.5 / step, "accuracy": 50.0})
  run_directory.write_scores(root, "test", np.arange(7.0))
  run_directory.write_summary(root, {"steps": 5, "gradients": 5, "test_loss": 0.3})


def read_run(root: Path) -> Any:
  scores = run_directory.read_scores(root)
  found = run_directory.read_config(root), metric_files.read_lines(root), scores.tolist()
  return *found, run_directory.read_summary(root)


STATE = {"w": jnp.arange(600, dtype=jnp.float32), "count": jnp.int32(3)}


def make_checkpoints(root: Path) -> None:
  checkpoints = Checkpoints(root / "checkpoints")
  checkpoints.save(4, STATE, {"metrics_size": 10})
  checkpoints.close()


def read_checkpoint(root: Path) -> Any:
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), STATE)
  checkpoints = Checkpoints(root / "checkpoints", read_only=True)
  state, host = checkpoints.restore(like)
  checkpoints.close()
  return jax.tree.map(lambda x: x.tolist(), state), host


def make_comparison(root: Path) -> None:
  compared = equal_budgets.Comparison(DIGITS, ("sgd", "sam"), 2, "gradients", 8)
  files.write_json(root / "compare.json", to_json(compared) | {"versions": {}})
  found = files.read_json(RESULTS / "2026-11-25-demo" / "results.json")
  for name in ("runs", "chosen", "own_metrics"):
    found[name] = {method: found[name][method] for method in compared.methods}
  found["table"] = [row for row in found["table"] if row["method"] in compared.methods]
  files.write_json(root / "results.json", found)
  flat = files.read_json(RESULTS / "2026-11-25-demo" / "flatness.json")
  files.write_json(root / "flatness.json", flat | {"landscapes": {}})


def read_comparison(root: Path) -> str:
  """The page, whose figures are left out."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(style, "save_all", lambda drawn, out: None)
    patch.setattr(page, "picture", lambda out, name: name)
    reports.write(root, Console(quiet=True))
  return (root / "report.html").read_text()


def make_unsigned(root: Path) -> None:
  """As an older version wrote it."""
  make_comparison(root)
  for path in root.glob("*.json"):
    path.write_text(json.dumps(files.read_json(path)))


def report(root: Path) -> str:
  """By the command, whose line is told as a refusal."""
  said = io.StringIO()
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
    patch.setattr(style, "save_all", lambda drawn, out: None)
    patch.setattr(page, "picture", lambda out, name: name)
    if main(["report", str(root)]):
      raise Refusal(said.getvalue().removesuffix("\n"))
  return (root / "report.html").read_text()


def make_idx(root: Path) -> None:
  write_idx_directory(root / "plain", PIXELS[..., 0], np.arange(10), 3, ("-", ""))
  write_idx_directory(root / "packed", PIXELS[..., 0], np.arange(10), 3)


def read_set(data: Any, *splits: str) -> list[Any]:
  config = changed(presets.CONFIGS["digits"], data={"set": data})
  sources = [batches.read(config, split) for split in splits]
  return [
    jax.tree.map(lambda x: np.asarray(x).tolist(), source[i]) for source in sources for i in (0, -1)
  ]


def read_idx(root: Path) -> Any:
  return [read_set(IdxImages(str(root / name)), "train", "test") for name in ("plain", "packed")]


def make_text(root: Path) -> None:
  texts = [f"{i} times {i} is {i * i}.\n" * 9 for i in range(40)]
  (root / "text").mkdir()
  lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
  for name, content in {
    "a.txt": lines,
    "b.jsonl": lines,
    "c.jsonl.gz": gzip.compress(lines),
    "d.xz": lzma.compress(lines),
  }.items():
    (root / "text" / name).write_bytes(content)
  pyarrow.parquet.write_table(pyarrow.table({"text": texts}), root / "text" / "e.parquet")
  for name in ("f.tar", "g.tar.xz"):
    with tarfile.open(root / "text" / name, "w:xz" if name.endswith("xz") else "w") as archive:
      archive.add(root / "text" / "a.txt", "a.txt")


def read_text(root: Path) -> Any:
  """Without the cache, which would hide the damage."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(root / "cache" / str(next(COUNTER))))
    config = changed(
      presets.CONFIGS["llama-0.9m"], data={"set": TextFiles(16, directory=str(root / "text"))}
    )
    sources = [batches.read(config, split) for split in ("train", "test")]
    return [source[i]["tokens"].tolist() for source in sources for i in range(len(source))]


COUNTER = itertools.count()


def make_cache(root: Path) -> None:
  (root / "text").mkdir()
  for i in range(40):
    (root / "text" / f"{i}.txt").write_text(f"{i} times {i} is {i * i}.\n" * 9)
  read_cache(root)


def read_cache(root: Path) -> Any:
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    data = TextFiles(16, 300, directory=str(root / "text"))
    source = batches.read(changed(presets.CONFIGS["llama-0.9m"], data={"set": data}), "train")
    return [source[i]["tokens"].tolist() for i in range(len(source))]


def make_tfds(root: Path) -> None:
  prepare(FlatoptPngs, root)


def read_tfds(root: Path) -> Any:
  return read_set(TfdsImages("flatopt_pngs", data_dir=str(root)), "train")


KINDS = {
  "run": Kind(make_run, read_run, exact=True),
  "checkpoints": Kind(make_checkpoints, read_checkpoint, exact=True),
  "comparison": Kind(make_comparison, read_comparison, exact=True),
  "unsigned": Kind(make_unsigned, report, exact=False),
  "idx": Kind(make_idx, read_idx, exact=False),
  "text": Kind(make_text, read_text, exact=False),
  "cache": Kind(make_cache, read_cache, exact=False),
  "tfds": Kind(make_tfds, read_tfds, exact=False),
}
LEFT_ALONE = "timing.jsonl", "events", "lock", "report.html"  # what no command reads


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, tuple[Path, Any]]:
  """A directory of each kind, and what is read from it."""
  found = {}
  for name, kind in KINDS.items():
    root = tmp_path_factory.mktemp(name)
    kind.make(root)
    found[name] = root, kind.read(root)
  return found


def readable(root: Path) -> list[Path]:
  found = sorted(path for path in root.rglob("*") if path.is_file())
  return [path for path in found if not path.name.startswith(LEFT_ALONE)]


def change_json(rng: random.Random, content: Any) -> None:
  """Another type in place of a value, or another name of a field, somewhere in ``content``."""
  names = list(content) if isinstance(content, dict) else list(range(len(content)))
  names = [name for name in names if name != "digest"] or names
  name = rng.choice(names)
  if isinstance(content[name], dict | list) and content[name] and rng.random() < 0.8:
    change_json(rng, content[name])
  elif isinstance(content, dict) and rng.random() < 0.3:
    content[f"{name}_"] = content.pop(name)
  else:
    content[name] = rng.choice(VALUES)


def damage(rng: random.Random, root: Path) -> str:
  """Damages a file of ``root`` in one way, and says which and how."""
  path, other = rng.choice(readable(root)), rng.choice(readable(root))
  content = bytearray(path.read_bytes())
  way = rng.choice(["cut", "flip", "overwrite", "swap", "replace", "type"])
  if way == "cut":
    del content[rng.randrange(len(content)) :]
  elif way == "flip":
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  elif way == "overwrite":
    start = rng.randrange(len(content))
    content[start : start + 20] = rng.randbytes(20)
  elif way == "swap":
    content, others = bytearray(other.read_bytes()), content
    other.write_bytes(others)
  elif way == "type" and path.suffix == ".json":
    parsed = json.loads(content)
    change_json(rng, parsed)
    content = json.dumps(parsed).encode()
  else:
    content = rng.choice(WRONG)
  path.write_bytes(content)
  return f"{way} {path.relative_to(root)}" + f" {other.relative_to(root)}" * (way == "swap")


def check(seed: int, whole: dict[str, tuple[Path, Any]], work: Path) -> bool:
  """Damages a copy and reads it; returns whether it was refused."""
  rng = random.Random(seed)
  name = list(KINDS)[seed % len(KINDS)]
  original, expected = whole[name]
  root = work / original.name
  shutil.rmtree(root, ignore_errors=True)
  shutil.copytree(original, root)
  done = damage(rng, root)
  same = {path: path.read_bytes() for path in readable(root)} == {
    root / path.relative_to(original): path.read_bytes() for path in readable(original)
  }
  try:
    found = KINDS[name].read(root)
  except (Refusal, OSError) as error:
    assert not same, done
    (line,) = str(error).splitlines()
    assert str(root) in line, (seed, done, line)
    return True
  except Exception as error:
    raise AssertionError(f"seed {seed}: {done}") from error
  assert found == expected or not KINDS[name].exact, (seed, done)
  return False


CHANGES = {
  "config.json": (b'"width": 8', b'"width": 9'),
  "summary.json": (b"0.3", b"0.2"),
  "metrics.jsonl": (b"1.5", b"1.4"),
  "test_scores.npy": (b"\0\0\x80?", b"\0\0\x90?"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_number_of_a_finished_run_is_refused(name, tmp_path):
  make_run(tmp_path)
  read_run(tmp_path)
  path = tmp_path / name
  content = path.read_bytes()
  path.write_bytes(content.replace(*CHANGES[name], 1))
  assert path.read_bytes() != content
  with pytest.raises(Refusal, match=name):
    read_run(tmp_path)


def test_a_json_file_in_another_s_place_is_refused_and_one_by_hand_is_read(tmp_path):
  files.write_json(tmp_path / "one.json", {"x": 1})
  (tmp_path / "two.json").write_bytes((tmp_path / "one.json").read_bytes())
  with pytest.raises(Refusal, match=r"two\.json is damaged \(it was changed"):
    files.read_json(tmp_path / "two.json")
  (tmp_path / "two.json").write_text('{"x": 2}')
  assert files.read_json(tmp_path / "two.json") == {"x": 2}
  with pytest.raises(Refusal, match=r"two\.json has no y"):
    files.read_json(tmp_path / "two.json")["y"]


def test_an_unsigned_file_is_named_for_the_error_that_it_causes(tmp_path):
  make_unsigned(tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  (tmp_path / "results.json").write_text(json.dumps(results | {"runs": 5}))
  with pytest.raises(Refusal, match=r"results\.json may hold what this version cannot read \("):
    report(tmp_path)


def refused(seeds: range, whole: dict[str, tuple[Path, Any]], work: Path) -> float:
  return np.mean([check(seed, whole, work) for seed in seeds])


def test_fifty_damages(whole, tmp_path):
  assert refused(range(50), whole, tmp_path) > 0.5


@pytest.mark.slow  # two minutes
def test_a_thousand_damages(whole, tmp_path):
  assert refused(range(1000), whole, tmp_path) > 0.5
