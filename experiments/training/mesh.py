"""The mesh of all devices, and how a run's arrays are split over it."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.config import Config, Refusal

AXES = ("data", "fsdp")


def make_mesh(config: Config) -> jax.sharding.Mesh:
  """Batches are split over all devices, params and optimizer state over ``fsdp`` of them."""
  devices, fsdp = jax.device_count(), config.training.fsdp
  size, parts = config.data.batch_size, config.training.microbatches
  if devices % fsdp:
    raise Refusal(f"training.fsdp {fsdp} does not divide the {devices} devices")
  if size % (devices * parts):
    raise Refusal(
      f"data.batch_size {size} does not divide over {devices} devices"
      + (f" in {parts} microbatches" if parts > 1 else "")
    )
  return jax.make_mesh((devices // fsdp, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


def sharding(mesh: jax.sharding.Mesh, x: Any) -> NamedSharding:
  """Splits the longest axis that ``fsdp`` divides, if there is one."""
  fsdp = mesh.shape["fsdp"]
  lengths = [length if length % fsdp == 0 else 0 for length in x.shape]
  if fsdp == 1 or not any(lengths):
    return NamedSharding(mesh, PartitionSpec())
  longest = int(np.argmax(lengths))
  return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))
