"""Frozen params: every method inside ``trainable`` trains the rest as if they were constants."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from flatopt.trainable import FrozenNode
from tests import problem
from tests.conformance.cases import each_case_in_time
from tests.test_bad_input import raises

MASK = {"hidden": False, "out": True}  # a prefix


def end_of(optimizer, params, to_whole, from_whole, num_steps=6):
  """Trains ``params``; ``to_whole`` and ``from_whole`` lead to the problem's params and back."""

  @jax.jit
  def step(params, state, batch):
    fns = problem.closures(batch)
    closures = {
      "grad_fn": lambda p: from_whole(fns["grad_fn"](to_whole(p))),
      "sampled_grad_fn": lambda p, key: from_whole(fns["sampled_grad_fn"](to_whole(p), key)),
      "obj_fn": lambda p: fns["obj_fn"](to_whole(p)),
    }
    updates, state = optimizer.update(closures["grad_fn"](params), state, params, **closures)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  for seed in range(num_steps):
    params, state = step(params, state, problem.make_batch(seed))
  return params, state


@each_case_in_time
def test_it_is_training_with_the_frozen_params_held_constant(x64, case):
  start = problem.make_params()
  whole, state = end_of(flatopt.trainable(case.make(), MASK), start, lambda p: p, lambda g: g)
  alone, alone_state = end_of(
    case.make(), {"out": start["out"]}, lambda p: {**start, **p}, lambda g: {"out": g["out"]}
  )
  chex.assert_trees_all_equal(whole["hidden"], start["hidden"])
  chex.assert_trees_all_close(whole["out"], alone["out"], rtol=1e-12)
  assert np.any(whole["out"]["kernel"] != start["out"]["kernel"])
  # Nothing is kept for what is frozen, and what is reported is the same.
  assert [x.shape for x in jax.tree.leaves(state)] == [
    x.shape for x in jax.tree.leaves(alone_state)
  ]
  chex.assert_trees_all_close(flatopt.metrics(state), flatopt.metrics(alone_state), rtol=1e-10)
  assert flatopt.extra_gradient_evaluations(state) == flatopt.extra_gradient_evaluations(
    alone_state
  )


def test_frozen_leaves_are_not_perturbed():
  """The closure is called where only the trained leaf moved, by rho along its own gradient."""
  seen = []
  params = {"encoder": jnp.array([1.0, 2.0]), "head": jnp.array([3.0])}
  grads = {"encoder": jnp.array([10.0, 10.0]), "head": jnp.array([-2.0])}
  optimizer = flatopt.trainable(flatopt.sam(0.5), {"encoder": False, "head": True})

  def grad_fn(params):
    seen.append(params)
    return params

  updates, _ = optimizer.update(grads, optimizer.init(params), params, grad_fn=grad_fn)
  chex.assert_trees_all_close(seen[-1], {"encoder": params["encoder"], "head": jnp.array([2.5])})
  chex.assert_trees_all_close(updates, {"encoder": jnp.zeros(2), "head": jnp.array([2.5])})


@pytest.mark.parametrize("wrapper", [flatopt.lookahead, flatopt.sala, flatopt.momentum_sam])
def test_eval_params_are_whole(wrapper):
  """Those of a wrapper that has only the trained leaves, and the frozen leaves that are given."""
  params = problem.make_params()
  other = jax.tree.map(lambda x: x + 1, params)

  def evaluated(optimizer, params, other):
    _, state = optimizer.update(params, optimizer.init(params), params, grad_fn=lambda p: p)
    return flatopt.eval_params(state, other)

  optimizer = wrapper(optax.sgd(0.1))
  expected = other | {"out": evaluated(optimizer, params["out"], other["out"])}
  found = evaluated(flatopt.trainable(optimizer, MASK), params, other)
  chex.assert_trees_all_equal(found, expected)
  assert not np.any(found["out"]["bias"] == other["out"]["bias"])


def test_masks():
  params = {"a": jnp.ones(2), "b": {"c": jnp.ones(2), "d": jnp.ones(2)}}
  grads = jax.tree.map(jnp.ones_like, params)
  expected = {"a": 0.0, "b": {"c": -1.0, "d": -1.0}}
  whole_mask = {"a": False, "b": {"c": True, "d": True}}
  by_path = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: len(path) > 1, params)
  for mask in (whole_mask, {"a": False, "b": True}, by_path, {"a": np.False_, "b": np.True_}):
    optimizer = flatopt.trainable(optax.sgd(1.0), mask)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert jax.tree.map(lambda u: float(u[0]), updates) == expected


def test_masks_of_weight_decay_inside_see_the_same_paths():
  params = problem.make_params()
  decay_mask = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
  decay = optax.add_decayed_weights(1.0, mask=decay_mask)
  optimizer = flatopt.trainable(decay, MASK)
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  chex.assert_trees_all_equal(updates["out"]["kernel"], params["out"]["kernel"])
  assert not updates["out"]["bias"].any()


def test_masks_of_sam_inside_may_name_frozen_leaves():
  params = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)}
  is_trained, of_trained = {"a": True, "b": True, "c": False}, {"a": True, "b": False}
  outputs = []
  for mask in (of_trained, of_trained | {"c": True}, lambda p: of_trained):
    optimizer = flatopt.trainable(flatopt.sam(1.0, mask=mask), is_trained)
    updates, _ = optimizer.update(params, optimizer.init(params), params, grad_fn=lambda w: w)
    outputs.append(updates)
  chex.assert_trees_all_equal(*outputs)
  assert outputs[0]["a"][0] > outputs[0]["b"][0] == 1.0


def test_map_params():
  """As with ``optax.masked``: what stands for frozen leaves is an ``optax.MaskedNode``."""
  params = problem.make_params()
  optimizer = flatopt.trainable(flatopt.sala(optax.adam(0.1)), MASK)
  state = optimizer.init(params)
  names = jax.tree.map(lambda x: str(x.shape), params)
  mapped = optax.tree.map_params(
    optimizer,
    lambda x, name: name,
    state,
    names,
    transform_non_params=lambda _: "count",
    is_leaf=lambda x: isinstance(x, optax.MaskedNode),
  )
  assert mapped.inner.slow == names
  assert isinstance(state.inner.slow["hidden"]["kernel"], FrozenNode)


def test_errors():
  params = {"a": jnp.ones(2), "b": jnp.ones(2)}
  sgd = optax.sgd(0.1)
  with raises(ValueError, "trainable: mask does not fit the params"):
    flatopt.trainable(sgd, {"a": True}).init(params)
  with raises(TypeError, "trainable: mask must hold Python bools", "float32[]"):
    flatopt.trainable(sgd, {"a": jnp.ones(()), "b": True}).init(params)
  with raises(ValueError, "trainable: mask is False everywhere"):
    flatopt.trainable(sgd, {"a": False, "b": False}).init(params)
  with raises(ValueError, "trainable: params is None"):
    optimizer = flatopt.trainable(sgd, {"a": True, "b": False})
    optimizer.update(params, optimizer.init(params))
  with raises(TypeError, "trainable: optimizer must be an optax.GradientTransformation"):
    flatopt.trainable(optax.sgd, {"a": True, "b": False})
  with raises(ValueError, "MaskedNode", "flatopt.trainable(optimizer, mask)"):
    optax.masked(flatopt.sam(), {"a": True, "b": False}).init(params)
