"""What JAX 0.7 spells otherwise than JAX today."""

import jax
import jax.experimental

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
set_mesh = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh


def pcast(tree, axis_name, *, to):
  """``jax.lax.pcast``, which was ``pvary`` before JAX 0.8.2."""
  assert to == "varying"
  if hasattr(jax.lax, "pcast"):
    return jax.lax.pcast(tree, axis_name, to=to)
  return jax.lax.pvary(tree, axis_name)
