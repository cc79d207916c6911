"""Batches: what augmentation does and leaves alone, its seed, and the position that comes back."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from experiments.config import Augment, Data, DataSet, Refusal
from experiments.data import arrays, augment
from experiments.data.sets import StandardLibrary
from experiments.training import batches
from experiments.training.streams import Gathered, ReadAhead, one_by_one, set_position
from tests.experiments.small import DIGITS, RandomImages, changed

CIFAR = {"crop": 4, "flip": True, "cutout": 3}
ALL = CIFAR | {"mixup": 0.5}


@dataclasses.dataclass(frozen=True)
class OneHot(DataSet):
  """Image i is white at pixel i: a mixed image says of what it is mixed."""

  task = "classification"
  about = "pixels"
  classes = 4

  def source(self, split):
    images = 255 * np.eye(64, dtype=np.uint8).reshape(64, 8, 8, 1)
    return arrays.Images(images, np.arange(64, dtype=np.int32) % 4)


def on(dataset, seed=0, **chosen):
  """A config of this data set and augmentation."""
  data = {"set": dataset, "batch_size": 8, "test_examples": None, "augment": Augment(**chosen)}
  return changed(DIGITS, data=data, training={"seed": seed})


def taken(stream, num):
  return list(itertools.islice(one_by_one(stream), num))


def first(config, num=3):
  return taken(batches.training_batches(config), num)


def assert_equal(ones, others):
  for one, other in zip(ones, others, strict=True):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_nothing_is_augmented_unless_it_is_asked_for():
  dataset = RandomImages()
  known = {(x["image"].tobytes(), int(x["label"])) for x in dataset.source("train")}
  for batch in first(on(dataset)):
    rows = zip(batch["image"], batch["label"], strict=True)
    assert {(image.tobytes(), int(label)) for image, label in rows} <= known


@pytest.mark.parametrize("chosen", [{name: value} for name, value in CIFAR.items()])
def test_an_image_is_drawn_anew_in_every_epoch(chosen):
  """Of one image an epoch is one row: what differs is augmentation alone."""
  one, again, other = (first(on(RandomImages(examples=1), seed, **chosen)) for seed in (1, 1, 2))
  assert_equal(one, again)
  rows = [image.tobytes() for batch in one for image in batch["image"]]
  assert len(set(rows)) > 1
  assert rows != [image.tobytes() for batch in other for image in batch["image"]]


def test_every_epoch_has_its_own_order():
  config = on(RandomImages(classes=32))
  labels = np.concatenate([batch["label"] for batch in first(config, 8)])
  one, other = labels[:32], labels[32:]
  assert sorted(one) == sorted(other) == list(range(32))
  assert not np.array_equal(one, other)


def test_all_transforms_are_in_it():
  """What is cut out is grey, and what is mixed is in between."""
  white = on(OneHot(), **ALL)
  plain = changed(white, data={"augment": Augment(crop=4, flip=True)})
  assert set(np.unique(first(plain)[0]["image"])) <= {0, 255}
  cut = changed(white, data={"augment": Augment(cutout=3)})
  grey = np.mean(first(cut)[0]["image"] == 128, axis=(1, 2, 3))
  assert (grey >= 4 / 64).all()
  assert (grey <= 9 / 64).all()
  assert len(np.unique(first(white)[0]["image"])) > 3


@pytest.mark.parametrize("chosen", [ALL, {"size": 8, "mixup": 0.5}])
def test_the_data_position_comes_back(chosen):
  config = on(RandomImages(varied="size" in chosen), **chosen)
  stream = batches.training_batches(config)
  taken(stream, 3)
  position = json.loads(json.dumps(stream.get_state()))
  expected = taken(stream, 6)  # into the next epoch
  again = batches.training_batches(config)
  again.set_state(position)
  assert_equal(expected, taken(again, 6))
  assert_equal(first(config, 9)[3:], expected)


def test_mixed_labels_are_those_of_the_mixed_images():
  """The wrong ones, where labels are wrong."""
  config = changed(on(OneHot(), mixup=1.0), data={"wrong_labels": 0.5})
  source = batches.training_source(config)
  labels_NxK = np.eye(4)[[source[i]["label"] for i in range(64)]]
  for batch in first(config):
    assert (batch["label"].shape, batch["label"].dtype) == ((8, 4), np.float32)
    np.testing.assert_allclose(batch["label"].sum(axis=1), 1, rtol=1e-6)
    weights_BxN = batch["image"].reshape(8, 64) / 255
    assert (np.count_nonzero(weights_BxN, axis=1) <= 2).all()
    np.testing.assert_allclose(batch["label"], weights_BxN @ labels_NxK, atol=1 / 100)
  assert (weights_BxN.max(axis=1) < 0.99).any()


def test_evaluation_sees_no_augmentation():
  plain = batches.evaluation_source(on(RandomImages()))
  augmented = batches.evaluation_source(on(RandomImages(), **ALL))
  assert_equal([plain[i] for i in range(32)], [augmented[i] for i in range(32)])


@pytest.mark.parametrize("held_out", [0.0, 0.25])
def test_images_of_any_size_become_squares(held_out):
  """Those to train on are drawn; those to evaluate on, and the first, are central crops."""
  config = changed(on(RandomImages(varied=True), size=5), data={"held_out": held_out})
  raw = batches.evaluation_source(changed(config, data={"augment": Augment()}))
  assert raw[0]["image"].shape != raw[1]["image"].shape
  assert {batch["image"].shape for batch in first(config)} == {(8, 5, 5, 3)}
  source = batches.evaluation_source(config)
  assert len(source) == len(raw)
  crop = augment.CentralCrop(5)
  evaluated = [batch["image"] for batch, _ in batches.evaluation_batches(source, 8)]
  expected = [crop.map(raw[i])["image"] for i in range(len(raw))]
  assert_equal(np.concatenate(evaluated), expected)
  np.testing.assert_array_equal(source[0]["image"], expected[0])


def test_processes_share_the_batches_of_one(monkeypatch):
  whole = first(on(RandomImages(), **CIFAR))
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  for index in range(2):
    monkeypatch.setattr(jax, "process_index", lambda index=index: index)
    part = first(on(RandomImages(), **CIFAR))
    expected = [{name: x[index::2] for name, x in batch.items()} for batch in whole]
    assert_equal(expected, part)


@pytest.mark.parametrize("name", ["size", "crop", "cutout", "mixup"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_impossible_augmentation_is_refused(name, value):
  with pytest.raises(ValueError, match=rf"data\.augment\.{name} .* at least 0; got {value}"):
    Augment(**{name: value})


def test_text_is_not_augmented():
  with pytest.raises(ValueError, match=r"data\.augment is for images"):
    Data(StandardLibrary(), augment=Augment(flip=True))


def test_evaluation_counts_every_example_once():
  source = arrays.Images(np.zeros((11, 1, 1, 1), np.float32), np.arange(11, dtype=np.int32))
  seen = [
    label
    for batch, weights in batches.evaluation_batches(source, 4)
    for label, weight in zip(batch["label"], weights, strict=True)
    if weight
  ]
  assert seen == list(range(11))


def test_held_out_examples_are_not_trained_on():
  config = changed(DIGITS, data={"held_out": 0.25, "wrong_labels": 0.5, "test_examples": None})
  train, held_out = batches.training_source(config), batches.evaluation_source(config)
  whole = batches.training_source(DIGITS)
  assert len(train) + len(held_out) == len(whole)
  key = lambda source: {source[i]["image"].tobytes() for i in range(len(source))}
  assert not key(train) & key(held_out)
  labels = {whole[i]["image"].tobytes(): whole[i]["label"] for i in range(len(whole))}
  wrong = [train[i]["label"] != labels[train[i]["image"].tobytes()] for i in range(len(train))]
  assert np.mean(wrong) == pytest.approx(0.5, abs=1e-3)
  examples = (held_out[i] for i in range(len(held_out)))
  assert all(x["label"] == labels[x["image"].tobytes()] for x in examples)


def test_another_seed_holds_out_other_examples():
  parts = [
    batches.held_out(changed(DIGITS, data={"held_out": 0.2}, training={"seed": seed}), 100)[1]
    for seed in (1000, 1001, 1000)
  ]
  assert np.array_equal(parts[0], parts[2])
  assert len(set(parts[0]) & set(parts[1])) < 12  # of 20, where chance gives 4


def test_evaluation_takes_the_first_examples():
  assert len(batches.evaluation_source(DIGITS)) == DIGITS.data.test_examples
  assert len(batches.evaluation_source(changed(DIGITS, data={"test_examples": None}))) == 360


def test_batches_of_arrays_are_permutations_and_come_back():
  config = changed(DIGITS, data={"batch_size": 100})
  stream = batches.training_batches(config)
  assert isinstance(stream, Gathered)
  source = batches.training_source(config)
  known = {source[i]["image"].tobytes(): i for i in range(len(source))}
  found = stream.ahead(0, 30)
  assert found["image"].shape == (30, 100, 8, 8, 1)
  images = found["image"].reshape(3000, -1)
  order = [known[image.tobytes()] for image in images]
  for epoch in (order[: len(source)], order[len(source) : 2 * len(source)]):
    assert len(set(epoch)) >= len(known)  # of which a few are twins
  assert order[: len(source)] != order[len(source) : 2 * len(source)]
  stream.advance(7)
  again = batches.training_batches(config)
  again.set_state(json.loads(json.dumps(stream.get_state())))
  assert_equal([again.ahead(2, 3)], [jax.tree.map(lambda x: x[9:12], found)])
  other = batches.training_batches(changed(config, training={"seed": 1}))
  assert not np.array_equal(other.ahead(0, 1)["image"], found["image"][:1])


def test_wrong_labels_and_parts_are_gathered_as_they_are_read():
  config = changed(DIGITS, data={"wrong_labels": 0.4, "held_out": 0.2})
  source = batches.training_source(config)
  indices = np.array([[3, 1], [4, 1]])
  together = source.take(indices)
  for place in np.ndindex(2, 2):
    one = source[int(indices[place])]
    assert_equal([one], [jax.tree.map(lambda x, at=place: x[at], together)])


def test_batches_ahead_of_the_steps_are_not_lost():
  stream = batches.training_batches(on(RandomImages(), crop=2))
  assert isinstance(stream, ReadAhead)
  first = stream.ahead(0, 4)
  position = stream.get_state()
  assert_equal([stream.ahead(1, 2)], [jax.tree.map(lambda x: x[1:3], first)])
  stream.advance(1)
  assert stream.get_state() != position
  again = batches.training_batches(on(RandomImages(), crop=2))
  again.set_state(stream.get_state())
  assert_equal([again.ahead(0, 3)], [jax.tree.map(lambda x: x[1:], first)])


@pytest.mark.parametrize(
  ("chosen", "other"), [({}, {"next_index": 3}), ({"size": 8}, {"batches": 3}), ({}, None)]
)
def test_another_version_s_position_is_refused_in_one_line(chosen, other, tmp_path):
  """Grain's, which the first loop kept for arrays in memory too; and the other way round."""
  stream = batches.training_batches(on(OneHot(), **chosen))
  before = stream.get_state()
  with pytest.raises(Refusal) as refused:
    set_position(stream, other, tmp_path)
  assert stream.get_state() == before
  (line,) = str(refused.value).splitlines()
  assert line.startswith(f"{tmp_path} was begun by another version of experiments")
