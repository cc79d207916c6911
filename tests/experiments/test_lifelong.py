"""Class-incremental tasks partition the classes; the reservoir is a uniform sample."""

import numpy as np
import pytest

from experiments.data import lifelong

SOURCE = [{"image": np.full((2, 2, 1), i, np.uint8), "label": np.int32(i % 10)} for i in range(60)]


def stream(reservoir, batches, seed):
  for batch in batches:
    reservoir = lifelong.add(reservoir, {"label": batch}, seed)
  return reservoir


def test_tasks_partition_the_classes_in_an_order_of_the_seed():
  tasks = lifelong.class_tasks(100, 10, seed=0)
  assert [len(classes) for classes in tasks] == [10] * 10
  assert sorted(c for classes in tasks for c in classes) == list(range(100))
  assert tasks == lifelong.class_tasks(100, 10, seed=0)
  assert tasks != lifelong.class_tasks(100, 10, seed=1)
  with pytest.raises(ValueError, match="must divide 10 classes; got 3"):
    lifelong.class_tasks(10, 3, seed=0)


def test_every_example_is_in_the_task_of_its_class():
  tasks = lifelong.class_tasks(10, 5, seed=0)
  subsets = lifelong.split_by_class(SOURCE, tasks)
  assert sum(len(subset) for subset in subsets) == len(SOURCE)
  for classes, subset in zip(tasks, subsets, strict=True):
    examples = [subset[i] for i in range(len(subset))]
    assert {int(example["label"]) for example in examples} == set(classes)
    images = [int(example["image"][0, 0, 0]) for example in examples]
    assert images == [i for i in range(60) if i % 10 in classes]


def test_reservoir_holds_all_until_it_is_full():
  reservoir = lifelong.empty_reservoir(SOURCE[0], capacity=8)
  batch = {key: np.stack([example[key] for example in SOURCE[:5]]) for key in SOURCE[0]}
  reservoir = lifelong.add(reservoir, batch, seed=0)
  assert reservoir.seen == 5
  for key, values in batch.items():
    np.testing.assert_array_equal(reservoir.examples[key][:5], values)
    assert reservoir.examples[key].dtype == values.dtype
  drawn = lifelong.sample(reservoir, 100, seed=0, step=0)
  assert set(drawn["label"].tolist()) == set(range(5))
  for image, label in zip(drawn["image"], drawn["label"], strict=True):
    assert (image == label).all()


def test_each_example_stays_with_the_same_probability():
  """12 of 60 over 2,000 seeds: a fifth of the time each, early ones and late ones."""
  empty = lifelong.empty_reservoir({"label": np.int32(0)}, capacity=12)
  kept = np.zeros(60)
  for seed in range(2000):
    reservoir = stream(empty, np.arange(60, dtype=np.int32).reshape(6, 10), seed)
    assert len(np.unique(reservoir.examples["label"])) == 12
    kept[reservoir.examples["label"]] += 1
  # Five standard deviations of a binomial's share.
  np.testing.assert_allclose(kept / 2000, 0.2, atol=5 * np.sqrt(0.2 * 0.8 / 2000))


def test_a_resumed_stream_keeps_and_draws_the_same():
  batches = np.arange(60, dtype=np.int32).reshape(6, 10)
  empty = lifelong.empty_reservoir({"label": np.int32(0)}, capacity=12)
  whole = stream(empty, batches, seed=3)
  half = stream(empty, batches[:3], seed=3)
  # As a checkpoint hands it back: plain arrays.
  restored = lifelong.Reservoir({"label": half.examples["label"].copy()}, np.asarray(half.seen))
  resumed = stream(restored, batches[3:], seed=3)
  np.testing.assert_array_equal(resumed.examples["label"], whole.examples["label"])
  draw = lambda reservoir, step: lifelong.sample(reservoir, 12, 3, step)["label"].tolist()
  assert draw(whole, 5) == draw(resumed, 5) != draw(resumed, 6)
  assert not empty.examples["label"].any()
  other = stream(empty, batches, seed=4)
  assert not np.array_equal(other.examples["label"], whole.examples["label"])


def test_nothing_is_drawn_from_an_empty_reservoir():
  with pytest.raises(ValueError, match="the reservoir is empty"):
    lifelong.sample(lifelong.empty_reservoir(SOURCE[0], 3), 1, seed=0, step=0)
