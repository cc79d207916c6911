"""Dtypes, shapes and structures stay as they are; states hold arrays only."""

import chex
import flax.core
import jax
import jax.numpy as jnp
import optax
import pytest

from tests import problem
from tests.conformance.cases import CASES, each_case_in_time

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@each_case
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtypes_shapes_and_structures_stay(case, dtype):
  optimizer = case.make()
  params = problem.make_params(dtype)
  state = optimizer.init(params)

  def updates_and_state(params, state):
    fns = problem.closures(problem.make_batch(dtype=dtype))
    return optimizer.update(fns["grad_fn"](params), state, params, **fns)

  updates, new_state = jax.eval_shape(updates_and_state, params, state)
  chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
  chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
  chex.assert_trees_all_equal_structs(new_state, state)


@each_case_in_time
def test_one_bfloat16_step_is_near_the_float32_step(case):
  """From params that both dtypes hold exactly, with slack for bfloat16's 8 bits."""
  wide = problem.make_params(jnp.bfloat16)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), wide)
  moves = []
  for dtype in (jnp.float32, jnp.bfloat16):
    params = optax.tree.cast(wide, dtype)
    optimizer = case.make()
    step = jax.jit(problem.make_step(optimizer))
    moved, _ = step(params, optimizer.init(params), problem.make_batch(dtype=dtype))
    moves.append(optax.tree.cast(moved, jnp.float32))
  chex.assert_trees_all_close(*moves, atol=0.05)


@each_case
def test_states_hold_arrays_only(case):
  state = case.make().init(problem.make_params())
  assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@each_case
def test_other_containers(case):
  """A FrozenDict and a tuple give the numbers of the dict that holds the same leaves."""
  optimizer = case.make()
  params = problem.make_params()
  batch = problem.make_batch()

  def step_as(to_tree, from_tree):
    def grad_fn(tree):
      return to_tree(jax.grad(problem.loss_fn)(from_tree(tree), batch))

    def sampled_grad_fn(tree, key):
      return to_tree(problem.closures(batch)["sampled_grad_fn"](from_tree(tree), key))

    tree = to_tree(params)
    updates, _ = jax.jit(
      lambda tree: optimizer.update(
        grad_fn(tree), optimizer.init(tree), tree, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
      )
    )(tree)
    return from_tree(updates)

  plain = step_as(lambda x: x, lambda x: x)
  frozen = step_as(flax.core.freeze, flax.core.unfreeze)
  chex.assert_trees_all_close(frozen, plain, rtol=1e-6)
