"""Would the tests notice a wrong line? ``python -m tests.mutants`` breaks flatopt/, one place at a time.

The mutants are mutmut's: an argument dropped or None, an operator or a comparison swapped, a number one
more, a branch forced, an assignment emptied. Annotations, modules of types, decorators, strings and what
stands in a ``raise`` are left alone. ``SEED`` draws ``NUMBER`` places, and a mutant of each.

One run under coverage tells which tests reach which line, and how long each takes. A mutant meets the
tests that reach its statement; what runs on import only is reached by every test of its module. They run
in a process forked from one that has imported JAX and started nothing of it.

Everything is in ``build/mutants``: a run that was stopped goes on where it was, and without the directory
all starts anew. ``python -m tests.mutants tests/test_limits.py`` gives the survivors to these tests.
"""

import ast
import collections
import difflib
import itertools
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

SEED, NUMBER = 26, 300
ROUNDS = (5, 60)  # seconds of tests, as long as they take without a mutant
TREE = Path("build/mutants/tree")  # a copy, in which all that follows happens
REACH, RESULTS, OUTPUT = (Path("..", name) for name in ("reach.json", "results", "output"))


class Mutant(NamedTuple):
  file: str
  line: int
  difference: str


class Recorder:
  """A plugin of pytest that names coverage's contexts after tests, and keeps the tests' seconds."""

  def __init__(self, coverage):
    self.coverage, self.seconds, self.failed = coverage, collections.Counter(), set()

  def pytest_runtest_logstart(self, nodeid):
    self.coverage.switch_context(nodeid)

  def pytest_runtest_logreport(self, report):
    self.seconds[report.nodeid] += report.duration
    if not report.passed:
      self.failed.add(report.nodeid)


def measure_reach():
  """Writes how long every test takes, and which tests reach which line."""
  import coverage
  import pytest

  measured = coverage.Coverage(data_file=None, source=["flatopt"])
  recorder = Recorder(measured)
  with measured.collect():
    pytest.main(
      ["-q", "--doctest-modules", "--ignore=tests/experiments", "--ignore=tests/libraries"],
      plugins=[recorder],
    )
  data = measured.get_data()
  lines = {os.path.relpath(f): data.contexts_by_lineno(f) for f in data.measured_files()}
  seconds = {test: s for test, s in recorder.seconds.items() if test not in recorder.failed}
  REACH.write_text(json.dumps({"seconds": seconds, "lines": lines}))


def run_tests(tests):
  """Ends the process with pytest's exit code."""
  import pytest

  options = ["-x", "-q", "--tb=line", "-rfE", "-p", "no:cacheprovider", "--doctest-modules"]
  sys.exit(pytest.main([*options, *tests]))


def in_a_process(function, *arguments, limit=None):
  """The exit code, or None beyond the limit in seconds."""
  process = processes.Process(target=quietly, args=(function, *arguments))
  process.start()
  process.join(limit)
  if process.is_alive():
    process.kill()
    process.join()
    return None
  return process.exitcode


def quietly(function, *arguments):
  with OUTPUT.open("w") as output:
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    function(*arguments)


def places():
  """``[file, line, module, node, its mutants]``, for every place that has mutants."""
  import libcst
  from libcst.metadata import MetadataWrapper, PositionProvider
  from mutmut.mutation.mutators import mutation_operators

  left_alone = (libcst.Annotation, libcst.Decorator, libcst.Raise, libcst.BaseString)
  found = []

  class Finder(libcst.CSTVisitor):
    def on_visit(self, node):
      if isinstance(node, left_alone):
        return False
      kinds = [operator for kind, operator in mutation_operators if isinstance(node, kind)]
      if mutants := [mutant for operator in kinds for mutant in operator(node)]:
        found.append((file, positions[node].start.line, wrapper.module, node, mutants))
      return True

  for file in sorted(Path("flatopt").rglob("*.py")):
    if file.name not in ("_typing.py", "_version.py"):
      wrapper = MetadataWrapper(libcst.parse_module(file.read_text()))
      positions = wrapper.resolve(PositionProvider)
      wrapper.module.visit(Finder())
  return found


def draw():
  """The mutants."""
  random_ = random.Random(SEED)
  drawn = []
  for file, line, module, node, mutants in random_.sample(places(), NUMBER):
    mutated = module.deep_replace(node, random_.choice(mutants)).code
    two = (code.splitlines(keepends=True) for code in (module.code, mutated))
    difference = "".join(difflib.unified_diff(*two, str(file), str(file), n=0))
    drawn.append(Mutant(str(file), line, difference))
  return drawn


def statement(file, line):
  """The lines of the innermost statement at a line, without its body."""
  lines = range(line, line + 1)
  for node in ast.walk(ast.parse(Path(file).read_text())):  # outer ones first
    if isinstance(node, ast.stmt):
      end = node.body[0].lineno if getattr(node, "body", None) else node.end_lineno + 1
      if node.lineno <= line < end:
        lines = range(node.lineno, end)
  return lines


def tests_of(reach, file, line):
  """``[test, seconds]`` of all that reach a statement.

  Tests that are called like the module come first, and of each file the quickest.
  """
  contexts = reach["lines"].get(file, {})
  found = {test for n in statement(file, line) for test in contexts.get(str(n), ())}
  if found == {""}:
    found = {test for tests in contexts.values() for test in tests}
  seconds = {test: reach["seconds"][test] for test in found if test in reach["seconds"]}
  by_file = collections.defaultdict(list)
  for test in sorted(seconds, key=seconds.get):
    is_another = Path(file).stem.strip("_") not in test
    by_file[is_another, test.split("::")[0]].append(test)
  in_turn = [
    (is_another, turn, seconds[test], test)
    for (is_another, _), tests in by_file.items()
    for turn, test in enumerate(tests)
  ]
  return [(test, seconds[test]) for *_, test in sorted(in_turn)]


def between(tests, start, end):
  """The tests that begin between these seconds when they run one after the other."""
  ends = itertools.accumulate(seconds for _, seconds in tests)
  starts = ((test, total - seconds) for (test, seconds), total in zip(tests, ends, strict=True))
  return [test for test, s in starts if start <= s < end]


def outcome_of(mutant, tests):
  """What the tests say of the mutant, if the tree still has its place."""
  if not tests:
    return "survived"
  file = Path(mutant.file)
  original = file.read_text()
  patch = [
    "patch",
    "--strip=0",
    "--forward",
    "--quiet",
    "--no-backup-if-mismatch",
    "--reject-file=-",
  ]
  if subprocess.run(
    patch, input=mutant.difference, text=True, stdout=subprocess.DEVNULL
  ).returncode:
    return "gone"
  code = in_a_process(run_tests, tests, limit=4 * ROUNDS[-1])
  file.write_text(original)
  if code == 0:
    return "survived"
  lines = OUTPUT.read_text().splitlines() or [f"exit code {code}"]
  failed = [x for x in lines if x.startswith(("FAILED", "ERROR"))]
  return f"killed: {(failed or lines)[-1] if code else 'beyond the limit of time'}"


def to_do(known, reach, files):
  """``mutant, tests, seconds``: the survivors and the files, or all that is left of the rounds."""
  survivors = [mutant for mutant, (outcome, _) in known.items() if outcome == "survived"]
  if files:
    yield from ((mutant, files, 0) for mutant in survivors)
    return
  drawn = draw()
  for start, end in itertools.pairwise((0, *ROUNDS)):
    for mutant in drawn:
      outcome, seconds = known.get(mutant, ("survived", start))
      if outcome == "survived" and seconds < end:
        yield mutant, between(tests_of(reach, mutant.file, mutant.line), start, end), end


def main(files):
  shutil.rmtree(TREE, ignore_errors=True)
  ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "build", "runs", "site", "dist")
  shutil.copytree(".", TREE, ignore=ignored)
  os.chdir(TREE)
  sys.path[0] = os.getcwd()
  os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath("../programs")
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  if not REACH.exists():
    in_a_process(measure_reach)
  reach = json.loads(REACH.read_text())
  RESULTS.touch()
  rows = map(json.loads, RESULTS.read_text().splitlines())
  known = {Mutant(*mutant): (outcome, seconds) for mutant, outcome, seconds in rows}
  for mutant, tests, seconds in to_do(known, reach, files):
    begin = time.monotonic()
    known[mutant] = outcome_of(mutant, tests), seconds
    with RESULTS.open("a") as results:
      results.write(json.dumps([mutant, *known[mutant]]) + "\n")
    took = time.monotonic() - begin
    print(f"{took:.0f} s {mutant.file}:{mutant.line} {known[mutant][0]}", flush=True)
  for mutant, (outcome, _) in known.items():
    if outcome == "survived":
      print(f"{mutant.file}:{mutant.line}", *mutant.difference.splitlines()[3:], sep="\n")
  print(collections.Counter(outcome.split(":")[0] for outcome, _ in known.values()))


if __name__ == "__main__":
  processes = multiprocessing.get_context("forkserver")
  processes.set_forkserver_preload(["tests.conftest", "optax", "flax.nnx"])
  main(sys.argv[1:])
