"""The rows of PyTorch's peers, without PyTorch: what is counted, what is timed and what is shown."""

import sys
import types

import pytest

from benchmarks import report, timing, torch_peers
from benchmarks.contenders import contenders
from benchmarks.models import MLP


class Problem:
  """Stands in for a module of PyTorch: it counts gradients and computes none."""

  made: list["Problem"]

  def __init__(self, model):
    assert model is MLP
    self.num_gradients = self.num_steps = self.num_waits = 0
    self.made.append(self)

  def wait(self):
    self.num_waits += 1


def step_of(gradients_of_step):
  """Makes steps that compute as many gradients as ``gradients_of_step(step)`` says."""

  def make_step(problem):
    def step():
      problem.num_gradients += gradients_of_step(problem.num_steps)
      problem.num_steps += 1

    return step

  return make_step


every_fifth_twice = lambda step: 2 if step % 5 == 0 else 1


@pytest.fixture
def problems(monkeypatch):
  """The problems that are made, with steps in place of those that need PyTorch."""
  steps = types.ModuleType("benchmarks.torch_steps")
  steps.Problem = Problem
  steps.STEPS = {name: step_of(lambda _: 2) for name in torch_peers.PEERS}
  steps.STEPS |= {"base": step_of(lambda _: 1), "looksam(5)": step_of(every_fifth_twice)}
  steps.use_all_cores = lambda: 2
  monkeypatch.setattr(Problem, "made", [], raising=False)
  monkeypatch.setitem(sys.modules, "benchmarks.torch_steps", steps)
  monkeypatch.setattr("benchmarks.torch_steps", steps, raising=False)
  monkeypatch.setattr(torch_peers, "available", lambda: True)
  monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name}'s")
  return Problem.made


def test_gradients_are_counted_over_a_period(problems):
  rows = torch_peers.measure(MLP, ["base", "sam", "looksam(5)", "ire(10), GNB"], rounds=1)["rows"]
  assert {name: row["gradients"] for name, row in rows.items()} == {
    "base": 1,
    "sam": 2,
    "looksam(5)": 1.2,
  }
  assert [row["peer"] for row in rows.values()] == ["torch.optim.SGD", "SAM", "LookSAM(5)"]
  base, sam, looksam = problems
  # Once to count, once without measuring, and once a round; the base before and after the others.
  assert base.num_steps == 1 + 10 * 3
  assert sam.num_steps == 1 + 5 * 2
  assert looksam.num_steps == 5 + 10 * 2
  assert (base.num_waits, sam.num_waits, looksam.num_waits) == (3, 2, 2)


def test_time_is_that_of_a_step_with_what_is_queued(monkeypatch):
  clock = [0.0]

  def advance(seconds):
    clock[0] += seconds

  monkeypatch.setattr("time.perf_counter", lambda: clock[0])
  run = torch_peers.make_run(lambda: advance(0.25), 1.2, 5, lambda: advance(5))
  assert run() == 0.25 + 5 / 10


@pytest.mark.parametrize(
  ("names", "rounds", "has_torch"),
  [(["base", "sam"], 0, True), (["base", "ire(10), GNB"], 1, True), (["base", "sam"], 1, False)],
)
def test_nothing_is_measured(problems, monkeypatch, names, rounds, has_torch):
  monkeypatch.setattr(torch_peers, "available", lambda: has_torch)
  assert torch_peers.measure(MLP, names, rounds) == {}
  assert problems == []


def test_every_peer_is_that_of_a_method():
  assert torch_peers.PEERS.keys() <= {contender.name for contender in contenders()}


COST = {
  "flops": 1,
  "bytes_accessed": 1,
  "temp_bytes": 0,
  "state_bytes": 0,
  "compile_seconds": 0.0,
}


def test_tables_have_both_rows_side_by_side():
  time = lambda median, seconds: timing.Ratio(median, median - 0.5, 9, 0.96, seconds)._asdict()
  measured = {
    "model": "mlp",
    "num_params": 8,
    "rows": {
      "base": COST | {"gradients": 1, "time": time(1.0, 0.010)},
      "momentum_sam": COST | {"gradients": 1, "time": time(1.1, 0.011)},
      "sam": COST | {"gradients": 2, "time": time(1.9, 0.019)},
    },
    "torch": {
      "versions": {"torch": "2.14"},
      "threads": 3,
      "rows": {
        "base": {"peer": "torch.optim.SGD", "gradients": 1.0, "time": time(1.0, 0.02)},
        "sam": {"peer": "SAM", "gradients": 2.0, "time": time(2.25, 0.045)},
      },
    },
  }
  tables = report.model_tables(measured)
  assert "(torch 2.14, 3 threads)" in tables
  assert tables.splitlines()[-2:] == [
    "| torch.optim.SGD | 1 | 20 | 1.00 | 0.50 to 9.00 | base | 1 | 10 | 1.00 | 0.50 to 9.00 |",
    "| SAM | 2 | 45 | 2.25 | 1.75 to 9.00 | sam | 2 | 19 | 1.90 | 1.40 to 9.00 |",
  ]
  assert "PyTorch" not in report.model_tables(measured | {"torch": {}})
