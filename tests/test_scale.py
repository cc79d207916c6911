"""On sharded params a method sends what its gradient passes send, and scalars: nothing else."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import collectives, sharded
from benchmarks.contenders import Contender, Passes, flat, methods

SIZE, LENGTH = sharded.SIZES["small"]
adamw = functools.partial(optax.adamw, 1e-3)
METHODS = {contender.name: contender for contender in methods(adamw)}
IN_TIME = ("base", "sam", "ire(10), GNB", "sala(5), stage 2", "lookbehind(5), fixed")
each_method = pytest.mark.parametrize(
  "name", [pytest.param(n, marks=() if n in IN_TIME else pytest.mark.slow) for n in METHODS]
)


@pytest.fixture(autouse=True)
def strict_promotion():
  """Not here: AdamW's bias correction promotes."""


@functools.cache
def mesh():
  """Four parts of the params to store, two to compute with."""
  return sharded.make_mesh(model_parallel=2)


@functools.cache
def bytes_of_pass():
  passes = sharded.compile_passes(mesh(), SIZE, LENGTH)
  return {name: sharded.communication(compiled)[0] for name, compiled in passes.items()}


def beyond_passes(contender: Contender):
  arrays, scalars = sharded.communication(sharded.compile_step(contender, mesh(), SIZE, LENGTH))
  return sharded.beyond_passes(arrays, contender.passes, bytes_of_pass()), scalars


@each_method
def test_only_scalars_beyond_the_passes(name):
  arrays, scalars = beyond_passes(METHODS[name])
  assert arrays == {}
  assert scalars < 1000


def by_sorting(updates, _):
  """What IRE's threshold would be without ``kth_smallest``: gathers every update."""
  entries = jnp.sort(jnp.concatenate([x.ravel() for x in jax.tree.leaves(updates)]))
  return jax.tree.map(lambda x: x * (x <= entries[7]), updates)


def by_replicating(updates, _):
  """A state or update that is not sharded as the params are."""
  everywhere = NamedSharding(mesh(), PartitionSpec())
  return jax.lax.with_sharding_constraint(updates, everywhere)


@pytest.mark.parametrize("gathering", [by_sorting, by_replicating])
def test_a_method_that_gathers_would_be_seen(gathering):
  optimizer = optax.with_extra_args_support(optax.chain(adamw(), optax.stateless(gathering)))
  arrays, _ = beyond_passes(flat("gathering", optimizer, 1, Passes(1)))
  kernels = [x for x in jax.tree.leaves(sharded.params_of(mesh(), SIZE)) if x.ndim > 1]
  assert sum(arrays.values()) >= sum(x.size * 4 for x in kernels) / 2


PROGRAM = """
%body (carry: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %reduced = (f32[], f32[8,4]{1,0}, /*index=2*/f32[]) all-reduce(%a, %b, %c), to_apply=%sum
}

%condition (carry: (s32[], f32[8,4])) -> pred[] {
}

%branch (x: bf16[16]) -> bf16[16] {
  %started = (bf16[2], bf16[16]) all-gather-start(%x), dimensions={0}
  %gathered = bf16[16] all-gather-done(%started)
}

%other (x: bf16[16]) -> bf16[16] {
}

ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %loop = (s32[], f32[8,4]) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %choice = bf16[16] conditional(%i, %y, %y), branch_computations={%branch, %other}
  %norm = f32[] all-reduce(%z), to_apply=%sum
}
"""


def test_tuples_loops_and_branches_are_counted():
  found = collectives.collectives(PROGRAM)
  assert collectives.bytes_by_kind(found) == {"all-reduce": 3 * 8 * 4 * 4, "all-gather": 16 * 2}
  assert collectives.num_scalars(found) == 3 * 2 + 1
