"""optax's line searches as bases: they raise on every extra argument that they do not know."""

import functools

import chex
import jax
import optax
import pytest

import flatopt
from tests import problem

SEARCH = optax.chain(optax.sgd(4.0), optax.scale_by_backtracking_linesearch(5))


def line_search_arguments():
  """Updates, params, and all that a line search may be given."""
  params = problem.make_params()
  value_fn = lambda params: problem.loss_fn(params, problem.make_batch())
  value, grads = jax.value_and_grad(value_fn)(params)
  return grads, params, {"value": value, "grad": grads, "value_fn": value_fn}


@functools.partial(jax.jit, static_argnums=0)
def one_update(optimizer):
  grads, params, arguments = line_search_arguments()
  return optimizer.update(grads, optimizer.init(params), params, **arguments)[0]


AROUND = {
  "lookahead": flatopt.lookahead(SEARCH, sync_period=2),
  "sala": flatopt.sala(SEARCH, sync_period=3),
  "weight_average": flatopt.weight_average(SEARCH),
  "momentum_sam": flatopt.momentum_sam(SEARCH, rho=0.0),
  "lookbehind": flatopt.lookbehind(SEARCH, ascent_steps=1, rho=0.0),
}


@pytest.mark.parametrize("name", AROUND)
def test_wrappers_hand_on_only_what_they_were_given(name):
  """The first update of each is that of its base; a ``grad_fn`` made of ``value_fn`` would raise."""
  chex.assert_trees_all_close(one_update(AROUND[name]), one_update(SEARCH), rtol=1e-5, atol=1e-6)


def test_behind_sam_the_search_goes_along_its_gradient():

  @jax.jit
  def expected():
    grads, params, arguments = line_search_arguments()
    length = 0.1 / optax.tree.norm(grads)
    perturbed = jax.tree.map(lambda w, g: w + length * g, params, grads)
    sharp = jax.grad(arguments["value_fn"])(perturbed)
    return SEARCH.update(sharp, SEARCH.init(params), params, **arguments)[0]

  found = one_update(optax.chain(flatopt.sam(0.1), SEARCH))
  chex.assert_trees_all_close(found, expected(), rtol=1e-5, atol=1e-6)


def test_trainable_hides_the_frozen_leaves_of_grad_too():
  grads, params, arguments = line_search_arguments()
  value_fn = lambda out: arguments["value_fn"]({"hidden": params["hidden"], "out": out})
  expected, _ = SEARCH.update(
    grads["out"],
    SEARCH.init(params["out"]),
    params["out"],
    value=arguments["value"],
    grad=grads["out"],
    value_fn=value_fn,
  )
  found = one_update(flatopt.trainable(SEARCH, {"hidden": False, "out": True}))
  chex.assert_trees_all_close(found["out"], expected, rtol=1e-5, atol=1e-6)
  assert not any(jax.tree.leaves(jax.tree.map(lambda x: bool(x.any()), found["hidden"])))


@pytest.mark.slow  # eager line searches compile at every call
def test_check_optimizer_with_a_line_search():
  params = problem.make_params()
  flatopt.check_optimizer(flatopt.sala(optax.chain(flatopt.sam(0.1), SEARCH)), params)
  with pytest.raises(ValueError, match="sam is after the base optimizer"):
    flatopt.check_optimizer(optax.chain(SEARCH, flatopt.sam(0.1)), params)


def test_other_arguments_have_to_be_parameters_of_value_fn():
  grads, params, arguments = line_search_arguments()
  optimizer = optax.chain(flatopt.sam(0.1), SEARCH)
  state = optimizer.init(params)
  grad_fn = jax.grad(arguments["value_fn"])
  with pytest.raises(TypeError, match=r"not consumed by `value_fn`: \['grad_fn'\]"):
    optimizer.update(grads, state, params, grad_fn=grad_fn, **arguments)
  value_fn = lambda params, grad_fn=None: problem.loss_fn(params, problem.make_batch())
  expected, _ = optimizer.update(grads, state, params, **arguments)
  found, _ = optimizer.update(
    grads, state, params, grad_fn=grad_fn, **arguments | {"value_fn": value_fn}
  )
  chex.assert_trees_all_close(found, expected, rtol=1e-6)
