"""Every method under every optax wrapper: it works, or says what to do instead.

docs/composition.md holds this table for readers.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from tests import problem
from tests.conformance.cases import each_case_in_time
from tests.methods import AROUND, BEFORE

Optimizer = optax.GradientTransformationExtraArgs


class Wrapper(NamedTuple):
  """``wrap`` a whole optimizer; ``error`` is the message where it cannot work.

  ``repeats``: how often each batch is given, before the wrapped optimizer steps once.
  """

  name: str
  wrap: Callable[[Optimizer], optax.GradientTransformation]
  error: str = ""
  repeats: int = 1


def biases(params):
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)


def labels(params):
  return jax.tree.map(lambda is_bias: "bias" if is_bias else "rest", biases(params))


WRAPPERS = [
  Wrapper("named_chain", lambda o: optax.named_chain(("only", o))),
  Wrapper("apply_if_finite", lambda o: optax.apply_if_finite(o, max_consecutive_errors=3)),
  Wrapper("clipped behind", lambda o: optax.chain(o, optax.clip_by_global_norm(1e6))),
  Wrapper("MultiSteps", lambda o: optax.MultiSteps(o, 2).gradient_transformation(), repeats=2),
  Wrapper("masked", lambda o: optax.masked(o, biases), error="MaskedNode.*outside optax.masked"),
  Wrapper(
    "partition",
    lambda o: optax.partition({"bias": o, "rest": optax.sgd(0.1)}, labels),
    error="MaskedNode.*optax.partition",
  ),
  Wrapper(
    "MultiSteps in a chain",
    lambda o: optax.chain(optax.MultiSteps(o, 2).gradient_transformation()),
    error="grad_fn is missing|sampled_grad_fn is missing",
  ),
]


def run(optimizer, seeds=(0, 1, 2)):
  """The params after some steps; ``value`` is for ``reduce_on_plateau``."""

  @jax.jit
  def step(params, state, batch):
    fns = problem.closures(batch)
    value, grads = jax.value_and_grad(problem.loss_fn)(params, batch)
    updates, state = optimizer.update(grads, state, params, value=value, **fns)
    return optax.apply_updates(params, updates), state

  params = problem.make_params()
  state = optimizer.init(params)
  for seed in seeds:
    params, state = step(params, state, problem.make_batch(seed))
  return params


@each_case_in_time
@jax.numpy_dtype_promotion("standard")  # MultiSteps itself promotes
def test_each_wrapper_works_or_says_what_to_do(x64, case):
  plain = run(case.make())
  for wrapper in WRAPPERS:
    optimizer = wrapper.wrap(case.make())
    if wrapper.error:
      with pytest.raises(ValueError, match=wrapper.error):
        run(optimizer)
    else:
      seeds = np.repeat([0, 1, 2], wrapper.repeats)
      # MultiSteps keeps a running mean, whose rounding shows.
      chex.assert_trees_all_close(run(optimizer, seeds), plain, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", BEFORE)
@jax.numpy_dtype_promotion("standard")
def test_before_schedule_free_and_reduce_on_plateau(name):
  """Methods that stand before the base go before these two, too."""
  for base in (
    optax.contrib.schedule_free(optax.sgd(0.1), learning_rate=0.1),
    optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
  ):
    batch = problem.make_batch(0)
    params = run(optax.chain(BEFORE[name](), base), seeds=[0] * 10)
    assert problem.loss_fn(params, batch) < problem.loss_fn(problem.make_params(), batch)


@pytest.mark.parametrize("name", [*AROUND, "before"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_apply_if_finite_belongs_around_the_base(name, bad):
  """A gradient that is not finite reaches it, whatever the method, and is refused."""
  base = optax.apply_if_finite(optax.sgd(0.1, momentum=0.9), max_consecutive_errors=5)
  optimizer = AROUND[name](base) if name in AROUND else optax.chain(flatopt.sam(0.1), base)
  params = problem.make_params()
  state = optimizer.init(params)
  fns = problem.closures(problem.make_batch())
  update = jax.jit(lambda g, s: optimizer.update(g, s, params, **fns))
  broken = jax.tree.map(lambda g: g.at[0].set(bad), fns["grad_fn"](params))
  updates, state = update(broken, state)
  chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, params))
  updates, _ = update(fns["grad_fn"](params), state)
  chex.assert_tree_all_finite(updates)
  assert optax.tree.norm(updates) > 0
