"""jit, scan, vmap and pmap give the numbers of the plain call, in one trace."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest
from absl.testing import parameterized

from tests import problem
from tests.conformance.cases import ONE_OF_EACH_PLACE, OTHERS, each_case_in_time
from tests.versions import enable_x64

NUM_STEPS = 7


def run(step, params, state, seeds=range(NUM_STEPS)):
  for seed in seeds:
    params, state = step(params, state, problem.make_batch(seed))
  return params, state


@functools.cache
def reference(case, seed=0):
  """The jitted trajectory's end, in float64."""
  with enable_x64(True):
    optimizer = case.make()
    params = problem.make_params(seed=seed)
    return run(jax.jit(problem.make_step(optimizer)), params, optimizer.init(params))


@functools.cache
def after_one_step(case):
  with enable_x64(True):
    optimizer = case.make()
    params = problem.make_params()
    return run(jax.jit(problem.make_step(optimizer)), params, optimizer.init(params), seeds=[0])


def assert_close(actual, expected):
  chex.assert_trees_all_close(actual, expected, rtol=1e-10, atol=1e-12)


def check_one_step(test, case):
  with enable_x64(True):
    optimizer = case.make()
    params = problem.make_params()
    state = optimizer.init(params)
    step = test.variant(problem.make_step(optimizer))
    assert_close(step(params, state, problem.make_batch(0)), after_one_step(case))


class VariantsTest(chex.TestCase):
  """``chex.variants``: with and without jit, with and without device, pmap."""

  @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
  @parameterized.named_parameters((case.name, case) for case in ONE_OF_EACH_PLACE)
  def test_one_step(self, case):
    check_one_step(self, case)


@pytest.mark.slow
class VariantsOfTheOthersTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
  @parameterized.named_parameters((case.name, case) for case in OTHERS)
  def test_one_step(self, case):
    check_one_step(self, case)


@each_case_in_time
class TestExecution:
  def test_one_trace_over_100_steps(self, x64, case):
    chex.clear_trace_counter()
    optimizer = case.make()
    step = jax.jit(chex.assert_max_traces(problem.make_step(optimizer), n=1))
    params = problem.make_params()
    run(step, params, optimizer.init(params), seeds=range(100))

  def test_scan(self, x64, case):
    optimizer = case.make()
    params = problem.make_params()
    batches = jax.tree.map(lambda *x: jnp.stack(x), *map(problem.make_batch, range(NUM_STEPS)))
    step = problem.make_step(optimizer)
    end, _ = jax.lax.scan(
      lambda carry, batch: (step(*carry, batch), None), (params, optimizer.init(params)), batches
    )
    assert_close(end, reference(case))

  def test_vmap(self, x64, case):
    optimizer = case.make()
    params = [problem.make_params(seed=seed) for seed in (0, 1)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *params)
    state = jax.vmap(optimizer.init)(params)
    step = jax.jit(jax.vmap(problem.make_step(optimizer), in_axes=(0, 0, None)))
    params, _ = run(step, params, state)
    for i in (0, 1):
      expected, _ = reference(case, seed=i)
      assert_close(jax.tree.map(lambda x, i=i: x[i], params), expected)

  def test_init_under_jit(self, x64, case):
    optimizer = case.make()
    params = problem.make_params()
    chex.assert_trees_all_equal(jax.jit(optimizer.init)(params), optimizer.init(params))

  def test_donation(self, x64, case):
    optimizer = case.make()
    params = problem.make_params()
    state = optimizer.init(params)
    step = jax.jit(problem.make_step(optimizer), donate_argnums=(0, 1))
    assert_close(run(step, params, state), reference(case))
    assert all(x.is_deleted() for x in jax.tree.leaves(params))
