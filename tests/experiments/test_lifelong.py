"""A task starts where the last ended, and what that comes to is measured by the standard
definitions."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from rich.console import Console

import flatopt
from experiments import presets
from experiments.commands.program import main
from experiments.comparisons import equal_budgets, lifelong
from experiments.config import Lifelong, Refusal
from experiments.models.shapes import ResNet
from experiments.plots import lifelong as figures
from experiments.plots import style
from experiments.reports import directory as report
from experiments.training import batches, loop, saved_runs
from tests.experiments import runs
from tests.experiments.runs import TINY
from tests.experiments.small import DIGITS, changed
from tests.experiments.test_class_tasks import part

QUIET = Console(quiet=True)


def test_measures_of_a_matrix_by_hand():
  accuracy = [[90.0], [60.0, 80.0], [70.0, 50.0, 100.0], [10.0, 60.0, 40.0, 90.0]]
  np.testing.assert_allclose(lifelong.average_accuracy(accuracy), [90, 70, 220 / 3, 50])
  # 90 - 60; then 90 - 70 and 80 - 50; then 90 - 10, 80 - 60 and 100 - 40.
  np.testing.assert_allclose(lifelong.forgetting(accuracy), [30, 25, 160 / 3])
  assert lifelong.forgetting([[50.0], [70.0, 80.0]]) == [-20.0]
  assert lifelong.forgetting([[50.0]]) == []


def test_tasks_follow_each_other_at_the_same_budget():
  compared = lifelong.LifelongComparison(DIGITS, ("sgd",), 1, 5, 9, "steps", 7)
  first, second = (lifelong.task_config(compared, DIGITS, 3, task) for task in (0, 1))
  assert first.training.start_from is None
  assert second.training.start_from == "../task-0"
  assert second.data.lifelong == Lifelong(5, 1, 9)
  for training in (first.training, second.training):
    assert (training.seed, training.unit, training.budget) == (3, "steps", 7)


def test_names_in_the_figure_stay_apart_and_in_order():
  ends = {"sgd": 50.0, "sam": 50.1, "lookbehind": 50.2, "asam": 90.0}
  runs_of = lambda end: [
    {"accuracy": [[0]] * 3, "curves": {"average_accuracy": [99, 20, end], "forgetting": [5, end]}}
  ]
  results = {"runs": {method: runs_of(end) for method, end in ends.items()}}
  figure = figures.kept_and_lost(results, ("a", "b"), style.THEMES["dark"])
  for ax in figure.axes:
    places = {text.get_text(): text.xyann[1] for text in ax.texts}
    unit = np.ptp(ax.get_ylim())
    assert places["asam"] == pytest.approx(90)
    assert np.diff([places[name] for name in ("sgd", "sam", "lookbehind")]).min() > 0.06 * unit
    assert places["sam"] == pytest.approx(50.1, abs=0.01 * unit)
  assert [list(ax.get_xticks()) for ax in figure.axes] == [[1, 2, 3], [2, 3]]


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ((), "methods"),
    (("--methods", "sgd", "sgd"), "--methods must be named, and each be another"),
    (("--methods", "sgd", "adam"), "unknown method adam"),
    (("--methods", "sgd", "--tasks", "3"), "must divide 10 classes; got 3"),
    (("--methods", "sgd", "--tasks", "1"), "--tasks must be at least 2; got 1"),
    (("--methods", "sgd", "--replay", "-1"), "--replay must be at least 0; got -1"),
    (("--methods", "sgd", "--seeds", "0"), "--seeds must be at least 1; got 0"),
    (("--methods", "sgd", "--steps", "0"), "--steps must be at least 1; got 0"),
    (("--methods", "sgd", "--steps", "1", "--gradients", "1"), "one of --gradients, --steps"),
  ],
)
def test_refuses_in_one_line(flags, said, capsys, tmp_path):
  assert main(["lifelong", *TINY, "--out", str(tmp_path / "out"), *flags]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line
  assert not (tmp_path / "out").exists()


def test_refuses_text_and_classes_without_examples(capsys, tmp_path):
  flags = "--methods", "adamw", "--out", str(tmp_path / "out")
  assert main(["lifelong", "llama-0.9m", *flags]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.endswith("llama-0.9m has no classes to deal to tasks")
  with pytest.raises(ValueError, match=r"lifelong.task must be in \[0, 5\); got 5"):
    Lifelong(5, 5)
  with pytest.raises(ValueError, match="replay must be at least 0; got -1"):
    Lifelong(5, 0, -1)
  lone = changed(DIGITS, data={"set": dataclasses.replace(DIGITS.data.set, train_examples=1796)})
  with pytest.raises(Refusal, match="no examples of task"):
    [batches.evaluation_source(part(lone, 5, task)) for task in range(5)]


def short(config, **training):
  return changed(config, training={"budget": 3, "unit": "steps", "evaluations": 1, **training})


def first_state(config, directory):
  return loop.Run(config, directory, QUIET).dispatcher.state


@pytest.mark.slow  # compiles five training loops
@pytest.mark.parametrize("method", ["sgd", "lookahead"])
def test_starts_from_what_the_other_run_is_evaluated_at(method, tmp_path):
  """Lookahead's slow weights after 3 steps are not its params; BatchNorm's statistics go on."""
  model = ResNet((1,), 4)
  config = dataclasses.replace(presets.with_method(DIGITS, method), model=model)
  loop.train(short(config), tmp_path / "first", QUIET)
  _, _, end = saved_runs.load_finished(tmp_path / "first")
  other = presets.with_method(config, "lookahead")
  second = loop.Run(short(other, start_from="../first", seed=1), tmp_path / "second", QUIET)
  start = second.dispatcher.state
  expected = flatopt.eval_params(end.opt_state, end.params)
  jax.tree.map(np.testing.assert_array_equal, start.params, expected)
  jax.tree.map(np.testing.assert_array_equal, start.model_state, end.model_state)
  slow = flatopt.eval_params(start.opt_state, start.params)
  jax.tree.map(np.testing.assert_array_equal, slow, expected)
  assert second.step == second.gradients == 0
  program = loop.Run(short(other, seed=1), tmp_path / "third", QUIET).program
  fresh = program.init(program.inputs)
  changes = jax.tree.map(lambda x, y: bool(np.any(x != y)), start.params, fresh.params)
  assert any(jax.tree.leaves(changes))
  # The statistics are not the initial ones, nor are lookahead's params its slow weights.
  moved = jax.tree.map(lambda x, y: bool(np.all(x != y)), start.model_state, fresh.model_state)
  assert all(jax.tree.leaves(moved))
  apart = jax.tree.map(lambda x, y: bool(np.any(x != y)), end.params, expected)
  assert any(jax.tree.leaves(apart)) == (method == "lookahead")


@pytest.mark.slow  # two training loops
def test_refuses_a_start_that_is_not_there_or_does_not_fit(tmp_path):
  config = short(DIGITS, start_from="../first")
  with pytest.raises(Refusal, match=r"first holds no run: there is no config\.json"):
    loop.train(config, tmp_path / "second", QUIET)
  loop.train(short(DIGITS), tmp_path / "first", QUIET)
  with pytest.raises(Refusal, match="first holds a run of another model"):
    loop.train(changed(config, model={"width": 16}), tmp_path / "third", QUIET)
  (tmp_path / "first" / "summary.json").unlink()
  with pytest.raises(Refusal, match="first: the run is not finished"):
    loop.train(config, tmp_path / "second", QUIET)


@pytest.mark.slow  # four training loops
def test_a_killed_task_continues_with_the_same_memory(tmp_path, monkeypatch, compilations):
  """Killed between checkpoints, of which one is behind it; both tasks are one program."""
  steps = {"budget": 12, "unit": "steps", "checkpoint_every": 4, "log_every": 1}
  loop.train(changed(part(DIGITS, 5, 0, 9), training=steps), tmp_path / "task-0", QUIET)
  config = changed(part(DIGITS, 5, 1, 9), training=steps | {"start_from": "../task-0"})
  compilations.clear()
  loop.train(config, tmp_path / "whole", QUIET)
  assert len(compilations) <= 2  # its start, and the gathering of as many images as it has
  receive = loop.Run.receive

  def receive_until_killed(loop):
    if loop.step >= 6:
      raise runs.Killed
    receive(loop)

  with monkeypatch.context() as patch:
    patch.setattr(loop.Run, "receive", receive_until_killed)
    with pytest.raises(runs.Killed):
      loop.train(config, tmp_path / "killed", QUIET)
  loop.train(config, tmp_path / "killed", QUIET)
  runs.assert_same_ending(tmp_path / "whole", tmp_path / "killed")


LEARNED = lifelong.LifelongComparison(
  config=changed(DIGITS, training={"evaluations": 1}, data={"test_examples": 20}),
  methods=("sgd", "sam"),
  seeds=2,
  tasks=2,
  replay=20,
  unit="gradients",
  amount=16,
)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
  """(directory, the runs that were trained) of a comparison that was killed once."""
  out = tmp_path_factory.mktemp("learned")
  trained = runs.killed_once(lambda: lifelong.learn(LEARNED, out, QUIET), out, at=4)
  report.write(out, QUIET)
  return out, trained


@pytest.mark.slow  # eight runs and a minute, as are those below
def test_repeats_no_finished_task(learned):
  _, trained = learned
  assert len(trained) == len(set(trained)) + 1  # the one that was killed
  assert set(trained) == {
    f"runs/{m}/seed-{s}/task-{t}" for m in LEARNED.methods for s in (0, 1) for t in (0, 1)
  }


@pytest.mark.slow
def test_results_are_those_of_the_runs(learned):
  out, _ = learned
  results = json.loads((out / "results.json").read_text())
  for method, seeds in results["runs"].items():
    for seed, found in enumerate(seeds):
      where = [out / "runs" / method / f"seed-{seed}" / f"task-{t}" for t in (0, 1)]
      ended = [json.loads((path / "summary.json").read_text()) for path in where]
      # A run's own last evaluation was on its own task.
      own = [found["accuracy"][t][t] for t in (0, 1)]
      assert own == [one["test_accuracy"] for one in ended]
      assert found["curves"]["average_accuracy"] == [own[0], np.mean(found["accuracy"][1])]
      assert found["curves"]["forgetting"] == [own[0] - found["accuracy"][1][0]]
      assert found["steps"] == sum(one["steps"] for one in ended)
      assert found["gradients"] == 2 * LEARNED.amount
      assert found["peak_memory_mb"] == max(one["peak_memory_mb"] for one in ended)
      assert found["steps_per_second"] == np.mean([one["steps_per_second"] for one in ended])
      assert found["classes"] == results["runs"]["sgd"][seed]["classes"]
  for key, rows in results["tables"].items():
    values = {m: [one[key] for one in seeds] for m, seeds in results["runs"].items()}
    for row in rows:
      own, sgd = values[row["method"]], values["sgd"]
      assert row[key] == pytest.approx(np.mean(own))
      assert row[key + "_error"] == pytest.approx(np.std(own, ddof=1) / np.sqrt(2))
      assert row["difference"] == pytest.approx(np.mean(own) - np.mean(sgd))


@pytest.mark.slow
def test_report_is_drawn_again_from_the_files(learned, capsys):
  out, _ = learned
  page = (out / "report.html").read_text()
  budget = "2 tasks, 16 gradients each, a memory of 20 examples"
  for text in ("sam", budget, "after 2", "forgetting", "peak,\nMB", "steps\na second"):
    assert text in page
  for name in ("average accuracy", "forgetting"):
    assert f"<h2>Differences from sgd: {name}</h2>" in page
  with open(out / "table.csv", newline="") as file:
    found = [(row["measure"], row["method"]) for row in csv.DictReader(file)]
  assert found == [(key, m) for key in lifelong.MEASURES for m in LEARNED.methods]
  assert page.count("data:image/png;base64,") == 2
  for name in ("report.html", "lifelong.png", "lifelong-dark.png"):
    (out / name).unlink()
  assert main(["report", str(out)]) == 0
  assert (out / "report.html").read_text() == page
  assert (out / "lifelong.png").exists()
  assert (out / "lifelong-dark.png").exists()
  assert "sam" in capsys.readouterr().out
  assert main(["report", str(out / "runs" / "sam" / "seed-0" / "task-1")]) == 0


@pytest.mark.slow
def test_refuses_another_comparison(learned):
  with pytest.raises(Refusal, match="name another --out: --replay is 20 there, 0 here"):
    lifelong.learn(dataclasses.replace(LEARNED, replay=0), learned[0], QUIET)
  other = equal_budgets.Comparison(LEARNED.config, LEARNED.methods, 2, "gradients", 16)
  with pytest.raises(Refusal, match="--tasks is 2 there, None here"):
    equal_budgets.compare(other, learned[0], QUIET)
