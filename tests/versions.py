"""What JAX spells otherwise from version 0.7, the oldest that flatopt works with, to today's."""

import jax
import jax.experimental

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
set_mesh = jax.set_mesh if hasattr(jax, "set_mesh") else jax.sharding.use_mesh


def _pcast(tree, axis_name, *, to):
  assert to == "varying"
  return jax.lax.pvary(tree, axis_name)


pcast = jax.lax.pcast if hasattr(jax.lax, "pcast") else _pcast
