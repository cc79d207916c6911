"""Tasks partition the classes, memories are fair, a task starts where the last ended, and what
that comes to is measured by the standard definitions."""

import dataclasses
import json
from itertools import pairwise

import jax
import numpy as np
import pytest
from rich.console import Console

import flatopt
from experiments import batches, comparison, configs, figures, lifelong, report, run, trained
from experiments.__main__ import main
from experiments.config import Lifelong, Refusal
from experiments.configs.models import ResNet
from experiments.data import lifelong as data
from experiments.plots import style
from tests.experiments import runs
from tests.experiments.runs import TINY
from tests.experiments.test_training import changed, shrunk

QUIET = Console(quiet=True)
LABELS = np.arange(60) % 10
DIGITS = shrunk(configs.CONFIGS["digits"])


def part(config, tasks, task, replay=0):
  return changed(config, data={"lifelong": Lifelong(tasks, task, replay)})


def examples(source):
  return [(source[i]["image"].tobytes(), int(source[i]["label"])) for i in range(len(source))]


def test_tasks_partition_the_classes_in_an_order_of_the_seed():
  tasks = data.class_tasks(100, 10, seed=0)
  assert [len(classes) for classes in tasks] == [10] * 10
  assert sorted(c for classes in tasks for c in classes) == list(range(100))
  assert tasks == data.class_tasks(100, 10, seed=0)
  assert tasks != data.class_tasks(100, 10, seed=1)
  with pytest.raises(ValueError, match="must divide 10 classes; got 3"):
    data.class_tasks(10, 3, seed=0)


def test_every_example_is_in_the_task_of_its_class():
  tasks = data.class_tasks(10, 5, seed=0)
  found = [data.training_indices(LABELS, tasks, t, replay=0, seed=0) for t in range(5)]
  assert sorted(np.concatenate(found)) == list(range(60))
  for classes, indices in zip(tasks, found, strict=True):
    assert set(LABELS[indices]) == set(classes)


def test_memory_holds_earlier_classes_and_forgets_for_good():
  """Of what one memory dropped, no later one knows: only what a task brought may enter."""
  tasks = data.class_tasks(10, 5, seed=2)
  known = [[c for classes in tasks[:t] for c in classes] for t in range(6)]
  held = [set(data.memory(LABELS, classes, 7, seed=2).tolist()) for classes in known]
  assert [len(one) for one in held] == [0, 7, 7, 7, 7, 7]
  for classes, one in zip(known, held, strict=True):
    assert set(LABELS[list(one)].tolist()) <= set(classes)
  for task, (before, after) in enumerate(pairwise(held)):
    assert after <= before | set(np.flatnonzero(np.isin(LABELS, tasks[task])).tolist())
  assert len(data.memory(LABELS, known[1], 100, seed=2)) == 12


def test_each_example_is_kept_with_the_same_probability():
  """12 of 48 over 2,000 seeds: a quarter of the time each; the last two classes never."""
  kept = np.zeros(60)
  for seed in range(2000):
    kept[data.memory(LABELS, range(8), 12, seed)] += 1
  assert not kept[LABELS >= 8].any()
  # Five standard deviations of a binomial's share.
  np.testing.assert_allclose(kept[LABELS < 8] / 2000, 0.25, atol=5 * np.sqrt(0.25 * 0.75 / 2000))


@pytest.mark.parametrize("replay", [5, 12, 40])
def test_half_of_the_draws_are_from_memory(replay):
  tasks = data.class_tasks(10, 5, seed=0)
  indices = data.training_indices(LABELS, tasks, 4, replay, seed=0)
  np.testing.assert_array_equal(indices, data.training_indices(LABELS, tasks, 4, replay, seed=0))
  own = np.isin(LABELS[indices], tasks[4])
  assert np.mean(own) == 0.5
  for half, distinct in ((indices[own], 12), (indices[~own], replay)):
    counts = np.bincount(half)[np.unique(half)]
    assert len(counts) == distinct
    assert np.ptp(counts) <= 1
  assert len(data.training_indices(LABELS, tasks, 0, replay, seed=0)) == 12


def test_sources_of_the_tasks_are_the_whole_with_its_wrong_labels():
  noisy = changed(DIGITS, data={"wrong_labels": 0.3, "test_examples": None})
  whole = batches.training_source(noisy)
  parts = [batches.training_source(part(noisy, 5, task)) for task in range(5)]
  assert sorted(examples(whole)) == sorted(e for source in parts for e in examples(source))
  right = batches.training_source(changed(noisy, data={"wrong_labels": 0.0}))
  tasks = batches.class_tasks(part(noisy, 5, 0))
  true = dict(examples(right))
  for classes, source in zip(tasks, parts, strict=True):
    assert {true[image] for image, _ in examples(source)} == set(classes)
  tests = [batches.evaluation_source(part(noisy, 5, task)) for task in range(5)]
  assert sorted(examples(batches.evaluation_source(noisy))) == sorted(
    e for source in tests for e in examples(source)
  )
  few = part(changed(noisy, data={"test_examples": 4}), 5, 2)
  found = examples(batches.evaluation_source(few))
  assert len(found) == 4
  assert {label for _, label in found} <= set(tasks[2])


def test_memory_of_a_run_holds_earlier_classes_and_none_comes_with_the_first():
  tasks = batches.class_tasks(part(DIGITS, 5, 0))
  own, replayed = (batches.training_source(part(DIGITS, 5, 2, replay)) for replay in (0, 30))
  labels = [label for _, label in examples(replayed)]
  assert labels[: len(own)] == [label for _, label in examples(own)]
  assert set(labels[len(own) :]) == set(tasks[0] + tasks[1])
  assert len(set(examples(replayed)[len(own) :])) == 30
  first = batches.training_source(part(DIGITS, 5, 0, 30))
  assert {label for _, label in examples(first)} == set(tasks[0])


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
    {"accuracy": [[0]] * 3, "curves": {"average_accuracy": [99, 80, end], "forgetting": [5, end]}}
  ]
  results = {"runs": {method: runs_of(end) for method, end in ends.items()}}
  figure = figures.lifelong(results, ("a", "b"), style.THEMES["dark"])
  for ax in figure.axes:
    places = {text.get_text(): text.xy[1] for text in ax.texts}
    low, high = ax.get_ylim()
    assert places["asam"] == pytest.approx((90 - low) / (high - low))
    assert np.diff([places[name] for name in ("sgd", "sam", "lookbehind")]).min() > 0.06
    assert places["sam"] == pytest.approx((50.1 - low) / (high - low), abs=0.01)
  assert [list(ax.get_xticks()) for ax in figure.axes] == [[1, 2, 3], [2, 3]]


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ((), "methods"),
    (("--methods", "sgd", "sgd"), "wants --methods, each once"),
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
  return run.Run(config, directory, QUIET).state


@pytest.mark.slow  # compiles five training loops
@pytest.mark.parametrize("method", ["sgd", "lookahead"])
def test_starts_from_what_the_other_run_is_evaluated_at(method, tmp_path):
  """Lookahead's slow weights after 3 steps are not its params; BatchNorm's statistics go on."""
  model = ResNet((1,), 4)
  config = dataclasses.replace(configs.with_method(DIGITS, method), model=model)
  run.train(short(config), tmp_path / "first", QUIET)
  _, _, end = trained.ended(tmp_path / "first")
  other = configs.with_method(config, "lookahead")
  start = first_state(short(other, start_from="../first", seed=1), tmp_path / "second")
  expected = flatopt.eval_params(end.opt_state, end.params)
  jax.tree.map(np.testing.assert_array_equal, start.params, expected)
  jax.tree.map(np.testing.assert_array_equal, start.model_state, end.model_state)
  slow = flatopt.eval_params(start.opt_state, None)
  jax.tree.map(np.testing.assert_array_equal, slow, expected)
  assert start.step == start.gradients() == 0
  fresh = run.Run(short(other, seed=1), tmp_path / "third", QUIET).program.init()
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
    run.train(config, tmp_path / "second", QUIET)
  run.train(short(DIGITS), tmp_path / "first", QUIET)
  with pytest.raises(Refusal, match="first holds a run of another model"):
    run.train(changed(config, model={"width": 16}), tmp_path / "third", QUIET)
  (tmp_path / "first" / "summary.json").unlink()
  with pytest.raises(Refusal, match="first: the run is not finished"):
    run.train(config, tmp_path / "second", QUIET)


@pytest.mark.slow  # four training loops
def test_a_killed_task_goes_on_with_the_memory_that_it_had(tmp_path, monkeypatch):
  """Killed between checkpoints, of which one is behind it."""
  steps = {"budget": 12, "unit": "steps", "checkpoint_every": 4, "log_every": 1}
  run.train(changed(part(DIGITS, 5, 0, 9), training=steps), tmp_path / "task-0", QUIET)
  config = changed(part(DIGITS, 5, 1, 9), training=steps | {"start_from": "../task-0"})
  run.train(config, tmp_path / "whole", QUIET)
  advance = run.Run.advance

  def advance_until_killed(loop, timed):
    if loop.step == 6:
      raise runs.Killed
    advance(loop, timed)

  with monkeypatch.context() as patch:
    patch.setattr(run.Run, "advance", advance_until_killed)
    with pytest.raises(runs.Killed):
      run.train(config, tmp_path / "killed", QUIET)
  run.train(config, tmp_path / "killed", QUIET)
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
  for text in ("sam", budget, "after 2", "forgetting"):
    assert text in page
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
  with pytest.raises(Refusal, match="another comparison: replay is 20 and 0"):
    lifelong.learn(dataclasses.replace(LEARNED, replay=0), learned[0], QUIET)
  other = comparison.Comparison(LEARNED.config, LEARNED.methods, 2, 0, "gradients", 16)
  with pytest.raises(Refusal, match="another comparison: tasks is 2 and None"):
    comparison.compare(other, learned[0], QUIET)
