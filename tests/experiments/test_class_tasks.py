"""Tasks partition the classes and their examples, and memories are fair samples of the past."""

from itertools import pairwise

import numpy as np
import pytest

from experiments.config import Lifelong
from experiments.data import class_tasks as data
from experiments.training import batches
from tests.experiments.small import DIGITS, changed

LABELS = np.arange(60) % 10


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
