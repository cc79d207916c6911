"""Processes that share a comparison: who takes what, and what is left when one is killed."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from experiments.comparisons.sharing import (
  Job,
  beside_helpers,
  cores_of_each,
  nobody_else,
  one_at_a_time,
  train_all,
)
from experiments.config.locks import Busy
from tests.experiments.runs import SMALL

QUIET = Console(quiet=True)


def test_a_lock_is_refused_or_waited_for(tmp_path):
  entered = []

  def enter():
    with one_at_a_time(tmp_path):
      entered.append(True)

  waiting = threading.Thread(target=enter)
  with one_at_a_time(tmp_path):
    waiting.start()
    waiting.join(timeout=0.2)
    assert not entered
  waiting.join()
  assert entered
  for _ in range(2):  # free again after the first
    with nobody_else(tmp_path), pytest.raises(Busy, match="at work in"), nobody_else(tmp_path):
      pass


def test_trains_free_runs_and_waits_for_busy_ones():
  taken, left = [], {"first": "others", "second": None, "third": None}
  pauses = []

  def train(name):
    if left[name] == "others":
      raise Busy(name)
    taken.append(name)
    del left[name]

  def pause(seconds):
    pauses.append(seconds)
    if len(pauses) == 2:
      left["first"] = None  # who had it is gone

  jobs = lambda: [Job((name,), lambda name=name: train(name)) for name in left]
  train_all(jobs, QUIET, pause)
  assert taken == ["second", "third", "first"]
  assert len(pauses) == 2


def test_what_is_left_is_told(capsys):
  """With those runs that cannot be trained yet."""
  jobs = ["first", "second"]
  train = lambda: [Job((name,), lambda name=name: jobs.remove(name)) for name in jobs]
  train_all(train, Console(width=200), left=lambda: len(jobs) + 1)
  assert capsys.readouterr().out.splitlines() == [
    "done: first; 2 left, about 1 min",
    "done: second; 1 left, about 1 min",
  ]


def test_what_all_would_write_is_written_one_at_a_time(tmp_path):
  attempt = fcntl.LOCK_EX | fcntl.LOCK_NB
  with one_at_a_time(tmp_path), open(tmp_path / "lock") as other, pytest.raises(BlockingIOError):
    fcntl.flock(other, attempt)
  with open(tmp_path / "lock") as other:
    fcntl.flock(other, attempt)


def test_each_process_has_cores_of_its_own(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 2, 4, 6, 7}, raising=False)
  assert cores_of_each(2) == [{1, 4, 7}, {2, 6}]
  assert cores_of_each(1) == [{1, 2, 4, 6, 7}]
  assert cores_of_each(7) == [{1}, {2}, {4}, {6}, {7}, {1}, {2}]  # more processes than cores
  monkeypatch.delattr(os, "sched_getaffinity")
  assert cores_of_each(2) == [set(), set()]  # a system that cannot tell


def test_helpers_and_this_process_are_bound_before_they_work(monkeypatch):
  """With the flags of this process, and as ``--processes 0``, which starts no others."""
  started, bound = [], {}

  class Helper:
    pid = 77
    wait = terminate = lambda self: None

  monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command) or Helper())
  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
  monkeypatch.setattr(os, "sched_setaffinity", bound.__setitem__, raising=False)
  with beside_helpers(["demo", "--out", "x"], 2):
    assert bound == {77: {1}, 0: {0}}
  assert [command[1:] for command in started] == [
    ["-m", "experiments", "demo", "--out", "x", "--processes", "0"]
  ]
  bound.clear()
  with beside_helpers(["demo"], 1), beside_helpers(["demo"], 0):
    assert not bound  # one process alone keeps every core


def start(out, *more):
  flags = "--methods", "sgd", "sam", "--seeds", "3", "--out", str(out)
  return subprocess.Popen(
    [sys.executable, "-m", "experiments", "compare", "digits", *SMALL, *flags, *more],
    env=os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def runs_of(out):
  """Runs by their place: whether they are finished."""
  begun = out.glob("runs/*/seed-*/config.json")
  return {path.parent: (path.parent / "summary.json").exists() for path in begun}


def numbers(out):
  results = json.loads((out / "results.json").read_text())
  timed = "seconds", "steps_per_second", "peak_memory_mb"
  return {
    method: [{name: x for name, x in run.items() if name not in timed} for run in seeds]
    for method, seeds in results["runs"].items()
  }


@pytest.mark.slow  # three processes that train a comparison
def test_a_killed_process_leaves_its_run_to_the_other(tmp_path):
  out = tmp_path / "shared"
  killed, survivor = start(out), start(out)
  while sum(not finished for finished in runs_of(out).values()) < 2:  # each has one
    assert killed.poll() is None, killed.communicate()
    assert survivor.poll() is None, survivor.communicate()
    time.sleep(0.002)
  open_runs = [path for path, finished in runs_of(out).items() if not finished]
  killed.send_signal(signal.SIGKILL)
  killed.communicate()
  _, errors = survivor.communicate(timeout=300)
  assert survivor.returncode == 0, errors
  assert all(runs_of(out).values())
  assert len(runs_of(out)) == 6
  assert all((path / "summary.json").exists() for path in open_runs)
  assert (out / "report.html").exists()
  alone = start(tmp_path / "alone")
  _, errors = alone.communicate(timeout=300)
  assert alone.returncode == 0, errors
  assert numbers(out) == numbers(tmp_path / "alone")


@pytest.mark.slow  # processes that are started twenty times: ten minutes on a quiet machine
def test_twenty_kills_change_no_number(tmp_path):
  """Of either of two processes, at any moment: while it starts, compiles, trains, saves or reports."""
  out, moments = tmp_path / "shared", random.Random(0)
  flags = "--seeds", "8", "--training.checkpoint-every", "4"
  pair = [start(out, *flags), start(out, *flags)]
  kills = 0
  while kills < 20:
    time.sleep(moments.uniform(0, 20))
    victim = moments.randrange(2)
    if pair[victim].poll() is None:
      pair[victim].send_signal(signal.SIGKILL)
      kills += 1
    pair[victim].communicate()
    assert pair[victim].returncode in (0, -signal.SIGKILL)
    pair[victim] = start(out, *flags)
  for process in pair:
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors
  alone = start(tmp_path / "alone", *flags)
  _, errors = alone.communicate(timeout=1200)
  assert alone.returncode == 0, errors
  assert numbers(out) == numbers(tmp_path / "alone")
