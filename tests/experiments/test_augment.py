"""Augmentations: what they keep, how often they change, and that Grain's seed decides."""

import grain
import numpy as np
import pytest

from experiments.data import augment

IMAGE = np.arange(1, 6 * 8 * 3 + 1, dtype=np.uint8).reshape(6, 8, 3)


def drawn(transform, num):
  """A batch of ``num`` times the same image."""
  batch = {"image": np.stack([IMAGE] * num), "label": np.arange(num)}
  result = transform.random_map(batch, np.random.default_rng(0))
  np.testing.assert_array_equal(result["label"], batch["label"])
  assert result["image"].dtype == np.uint8
  assert (batch["image"] == IMAGE).all()
  return result["image"]


def test_crops_are_the_shifts_by_up_to_the_padding():
  padded = np.pad(IMAGE, [(2, 2), (2, 2), (0, 0)])
  shifts = {padded[i : i + 6, j : j + 8].tobytes() for i in range(5) for j in range(5)}
  assert {crop.tobytes() for crop in drawn(augment.RandomCrop(2), 400)} == shifts


def test_flips_half_of_the_time():
  flipped = [np.array_equal(x, IMAGE[:, ::-1]) for x in drawn(augment.RandomFlip(), 400)]
  straight = [np.array_equal(x, IMAGE) for x in drawn(augment.RandomFlip(), 400)]
  assert np.array_equal(flipped, ~np.array(straight))
  assert 160 < sum(flipped) < 240


@pytest.mark.parametrize("size", [1, 3, 4])
def test_cutout_is_one_square_around_every_pixel_in_turn(size):
  """Of full size inside; at the border, cut off: a corner keeps (size + 1) / 2 squared of it."""
  areas, rows, columns = set(), set(), set()
  for image in drawn(augment.Cutout(size), 400):
    cut = (image == 128).all(axis=-1)
    np.testing.assert_array_equal(image[~cut], IMAGE[~cut])
    i, j = np.flatnonzero(cut.any(axis=1)), np.flatnonzero(cut.any(axis=0))
    assert cut.sum() == len(i) * len(j)
    assert max(len(i), len(j)) <= size
    areas.add(int(cut.sum()))
    rows |= set(i.tolist())
    columns |= set(j.tolist())
  assert rows == set(range(6))
  assert columns == set(range(8))
  assert max(areas) == size**2
  assert min(areas) == (size - size // 2) ** 2


def test_cutout_of_normalised_images_is_zero():
  images = np.ones((50, 4, 4, 3), np.float32)
  cut = augment.Cutout(3).random_map({"image": images}, np.random.default_rng(0))["image"]
  assert cut.dtype == np.float32
  assert set(np.unique(cut)) == {0.0, 1.0}


@pytest.mark.parametrize("channels", [1, 3])
def test_resized_crops_are_parts_of_the_image(channels):
  """On a ramp a crop is a ramp: its ends tell where it was cut out, and how large."""
  ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (100, 200, channels))
  transform, rng = augment.RandomResizedCrop(16), np.random.default_rng(0)
  crops = [transform.random_map({"image": ramp}, rng)["image"] for _ in range(200)]
  assert {crop.shape for crop in crops} == {(16, 16, channels)}
  assert {crop.dtype for crop in crops} == {np.dtype(np.uint8)}
  firsts, lasts = (np.array([crop[8, i, 0] for crop in crops], int) for i in (0, -1))
  assert firsts.min() < 20
  assert lasts.max() > 180
  # A share of 8 to 100 % of 100 x 200 at most 4:3 wide: 35 to 133 columns.
  widths = (lasts - firsts) * 16 / 15
  assert 30 < widths.min() < 50
  assert 110 < widths.max() < 140


def test_central_crop_is_seven_eighths_of_the_shorter_side():
  image = np.zeros((80, 100, 3), np.uint8)
  image[5:75, 15:85] = 200
  assert (augment.CentralCrop(70).map({"image": image})["image"] == 200).all()
  image[5, 15] = 0
  assert not (augment.CentralCrop(70).map({"image": image})["image"] == 200).all()


@pytest.mark.parametrize(("dtype", "error"), [(np.uint8, 0.51), (np.float32, 1e-4)])
def test_mixup_weighs_images_and_labels_alike(dtype, error):
  batch = {"image": np.eye(4, dtype=dtype).reshape(4, 2, 2, 1) * dtype(100), "label": np.arange(4)}
  transform = augment.Mixup(alpha=1.0, classes=4)
  rng, weights = np.random.default_rng(0), []
  for _ in range(200):
    mixed = transform.random_map(batch, rng)
    assert (mixed["image"].dtype, mixed["label"].dtype) == (dtype, np.float32)
    np.testing.assert_allclose(mixed["image"].reshape(4, 4), mixed["label"] * 100, atol=error)
    np.testing.assert_allclose(mixed["label"].sum(axis=1), 1, rtol=1e-6)
    # Either 1 (mixed with itself) or the batch's one weight.
    own = np.diagonal(mixed["label"])
    assert len(np.unique(own[own < 0.9999].round(5))) <= 1
    weights.append(own.min())
  # Beta(1, 1) is uniform; the minimum is 1 only where the permutation is the identity.
  quartiles = np.quantile([w for w in weights if w < 0.9999], [0.25, 0.5, 0.75])
  np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=0.1)


def test_runs_in_grain_and_its_seed_decides():
  source = [{"image": IMAGE, "label": np.int32(i)} for i in range(6)]

  def batches(seed):
    dataset = (
      grain.MapDataset.source(source)
      .seed(seed)
      .shuffle()
      .batch(3)
      .random_map(augment.RandomCrop(2))
      .random_map(augment.RandomFlip())
      .random_map(augment.Cutout(2))
      .random_map(augment.Mixup(0.5, classes=6))
    )
    return np.stack([batch["image"] for batch in dataset])

  one, again, other = batches(1), batches(1), batches(2)
  assert one.shape == (2, 3, 6, 8, 3)
  np.testing.assert_array_equal(one, again)
  assert not np.array_equal(one, other)
