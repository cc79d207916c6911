"""Batches on the devices are the stream's, gathered there or copied from the host."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from experiments.data.arrays import Images, Subset, WrongLabels
from experiments.training import device_data
from experiments.training.mesh import AXES, make_mesh
from experiments.training.streams import Gathered
from tests.experiments.small import DIGITS


@pytest.fixture
def stream():
  images = np.arange(40 * 4, dtype=np.float32).reshape(40, 2, 2, 1)
  source = Images(images, np.arange(40, dtype=np.int32) % 10)
  return Gathered(WrongLabels(Subset(source, np.arange(5, 35)), 0.4, 10, seed=0), 16, seed=1)


@pytest.mark.parametrize("on_devices", [True, False])
def test_batches_are_the_stream_s(stream, on_devices, monkeypatch):
  mesh = make_mesh(DIGITS)
  sharding = NamedSharding(mesh, PartitionSpec(None, AXES))
  assert stream.num_bytes() == 30 * (4 * 4 + 4)
  monkeypatch.setattr(device_data, "MAX_BYTES", 600 if on_devices else 599)
  calls = []
  ahead = stream.ahead
  monkeypatch.setattr(stream, "ahead", lambda *args: calls.append(args) or ahead(*args))
  batches_ahead = device_data.batches_on_devices(stream, sharding)
  for position in range(3):  # over the end of an epoch
    found = batches_ahead(1, 2)
    assert bool(calls) != on_devices
    jax.tree.map(np.testing.assert_array_equal, found, ahead(1, 2))
    assert {x.sharding for x in jax.tree.leaves(found)} == {sharding}
    assert stream.position == position
    stream.advance(1)
