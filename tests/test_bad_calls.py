"""What ``init`` and ``update`` are called with: bad trees and closures raise as bad settings do."""

import jax
import jax.numpy as jnp
import optax
import pytest

import flatopt
from tests.test_bad_input import METHODS, OPTIMIZERS, SGD, raises

GRADIENT_USERS = ["sam", "asam", "ire", "sala", "lookbehind", "hutchinson"]
GRADIENT_USERS += ["empirical_fisher"]
IDENTITY = lambda params: params
PARAMS = {"a": jnp.ones(3), "b": [jnp.ones((2, 2))]}


def update(name, *, grads=PARAMS, params=PARAMS, state=None, **extra_args):
  settings = {"rho": 0.05, "curvature": optax.identity()} if name == "ire" else {}
  method = METHODS[name](**settings)
  state = method.init(PARAMS) if state is None else state
  closures = {"grad_fn": IDENTITY, "sampled_grad_fn": lambda params, key: params}
  return method.update(grads, state, params, **closures | extra_args)


@pytest.mark.parametrize("name", OPTIMIZERS)
class TestTrees:
  def test_good(self, name):
    update(name)

  def test_params_missing(self, name):
    with raises(ValueError, f"{name}: params is None", "update(updates, state, params"):
      update(name, params=None)

  def test_params_empty(self, name):
    for empty in ({}, [], (), None):
      with raises(ValueError, f"{name}: params is an empty pytree", repr(empty)):
        METHODS[name]().init(empty)
    with raises(ValueError, f"{name}: params is an empty pytree ({{}})"):
      update(name, params={}, grads={})

  def test_params_not_floating(self, name):
    for leaf in (jnp.arange(3), jnp.array([True]), jnp.ones(2, jnp.complex64), 3):
      params = {"a": jnp.ones(3), "b": [leaf]}
      dtype = str(jnp.result_type(leaf))
      with raises(TypeError, f"{name}: params['b'][0] is {dtype}", "floating"):
        METHODS[name]().init(params)
      with raises(TypeError, f"{name}: params['b'][0] is {dtype}"):
        update(name, params=params)

  def test_params_masked(self, name):
    params = {"a": jnp.ones(3), "b": [optax.MaskedNode()]}
    for call in (METHODS[name]().init, lambda params: update(name, params=params)):
      with raises(ValueError, f"{name}: params['b'][0] is optax.MaskedNode", "outside optax.mask"):
        call(params)


BAD_TREES = {
  "less": {"a": jnp.ones(3)},
  "other": {"a": jnp.ones(3), "c": [jnp.ones((2, 2))]},
  "tuple": {"a": jnp.ones(3), "b": (jnp.ones((2, 2)),)},
}


@pytest.mark.parametrize("name", OPTIMIZERS[:8])
def test_updates_unlike_params(name):
  for tree in BAD_TREES.values():
    with raises(ValueError, f"{name}: updates has the structure", str(jax.tree.structure(tree))):
      update(name, grads=tree)
  wrong_shape = {"a": jnp.ones(3), "b": [jnp.ones((2, 3))]}
  with raises(ValueError, f"{name}: updates['b'][0] has shape (2, 3)", "(2, 2)"):
    update(name, grads=wrong_shape)


@pytest.mark.parametrize("name", ["ire", "lookahead", "sala"])
def test_state_unlike_params(name):
  part = "the mask in the state" if name == "ire" else "slow in the state"
  settings = {"curvature": optax.identity()} if name == "ire" else {}
  for tree in BAD_TREES.values():
    state = METHODS[name](**settings).init(tree)
    with raises(ValueError, f"{name}: {part} has the structure", str(jax.tree.structure(tree))):
      update(name, state=state)
  state = METHODS[name](**settings).init({"a": jnp.ones(3), "b": [jnp.ones((4, 2))]})
  with raises(ValueError, f"{name}: {part}['b'][0] has shape (4, 2)", "(2, 2)"):
    update(name, state=state)


@pytest.mark.parametrize("name", GRADIENT_USERS)
class TestGradFn:
  def test_missing(self, name):
    with raises(ValueError, f"{name}: grad_fn is missing", "grad_fn=grad_fn"):
      update(name, grad_fn=None)

  def test_no_function(self, name):
    with raises(TypeError, f"{name}: grad_fn must be a function; got 3"):
      update(name, grad_fn=3)

  def test_returns_another_tree(self, name):
    value_and_grad = lambda params: (jnp.zeros(()), params)
    for grad_fn in (value_and_grad, lambda params: {"a": params["a"]}):
      with raises(ValueError, f"{name}: the result of grad_fn has the structure"):
        update(name, grad_fn=grad_fn)
    with raises(ValueError, f"{name}: the result of grad_fn['a'] has shape ()"):
      update(name, grad_fn=lambda params: params | {"a": jnp.sum(params["a"])})


def test_sampled_grad_fn():
  name = "gauss_newton_bartlett"
  with raises(ValueError, f"{name}: sampled_grad_fn is missing"):
    update(name, sampled_grad_fn=None)
  with raises(TypeError, f"{name}: sampled_grad_fn must be a function; got 'g'"):
    update(name, sampled_grad_fn="g")
  with raises(ValueError, f"{name}: the result of sampled_grad_fn has the structure"):
    update(name, sampled_grad_fn=lambda params, key: (0.0, params))


def test_curvature_of_ire():
  """The default estimator asks for its closure; a wrong estimate is told as such."""
  with raises(ValueError, "grad_fn is missing"):
    flatopt.ire().update(PARAMS, flatopt.ire().init(PARAMS), PARAMS)
  loss_like = flatopt.ire(curvature=optax.stateless(lambda updates, params: updates["a"]))
  with raises(ValueError, "ire: the curvature estimate has the structure"):
    loss_like.update(PARAMS, loss_like.init(PARAMS), PARAMS, grad_fn=IDENTITY)


def test_usual_mistakes_with_grad_fn_are_named():
  """Each is a tree of the wrong structure, of which JAX would print no more."""
  loss_fn = lambda params: sum(jnp.sum(x) for x in jax.tree.leaves(params))
  value_and_grad = jax.value_and_grad(loss_fn)
  with raises(
    ValueError, "(value, grads), as jax.value_and_grad", "lambda *args: grad_fn(*args)[1]"
  ):
    update("sam", grad_fn=value_and_grad)
  with_aux = jax.grad(lambda params: (loss_fn(params), {"accuracy": 0.5}), has_aux=True)
  with raises(ValueError, "(grads, aux)", "lambda *args: grad_fn(*args)[0]"):
    update("sam", grad_fn=with_aux)


def test_a_closure_by_position_is_named():
  for name, method in (("sam", flatopt.sam()), ("trainable", flatopt.trainable(SGD, True))):
    with raises(TypeError, f"{name}: update takes three arguments", "grad_fn=grad_fn"):
      method.update(PARAMS, method.init(PARAMS), PARAMS, IDENTITY)


def test_params_in_the_place_of_the_state():
  state = flatopt.sam().init(PARAMS)
  with raises(TypeError, "eval_params: params is an optimizer state", "eval_params(opt_state, par"):
    flatopt.eval_params(PARAMS, state)
  for function in (flatopt.metrics, flatopt.extra_gradient_evaluations):
    with raises(TypeError, f"{function.__name__}: opt_state holds no", "If it is the params"):
      function(PARAMS)


@pytest.mark.parametrize(
  ("name", "argument"), [("sam", "mask"), ("asam", "scale_mask"), ("lookbehind", "scale_mask")]
)
def test_a_mask_that_does_not_fit_is_named(name, argument):
  settings = {"eta": 0.1} if name == "lookbehind" else {}
  method = METHODS[name](**settings, **{argument: {"other": True}})
  seen = str(jax.tree.structure({"other": True}))
  with raises(ValueError, f"{name}: {argument} does not fit the params", seen):
    method.update(PARAMS, method.init(PARAMS), PARAMS, grad_fn=IDENTITY)


def test_flax_train_state_that_drops_the_closure_is_named():
  from flax.training import train_state

  state = train_state.TrainState.create(
    apply_fn=None, params=PARAMS, tx=optax.chain(flatopt.sam(), optax.sgd(0.1))
  )
  with raises(ValueError, "sam: grad_fn is missing", "flatopt.linen.TrainState"):
    state.apply_gradients(grads=PARAMS, grad_fn=IDENTITY)


def test_factories_that_were_not_called_are_named():
  gauss_newton_bartlett = flatopt.curvature.gauss_newton_bartlett
  with raises(TypeError, "curvature must be", "call it: gauss_newton_bartlett(...)"):
    flatopt.ire(curvature=gauss_newton_bartlett)
  with raises(TypeError, "sala: base_optimizer must be", "call it: sgd(...)"):
    flatopt.sala(optax.sgd)
  with raises(TypeError, "rst: inner must be", "call it: sam(...)"):
    flatopt.rst(flatopt.sam)


@pytest.mark.parametrize(
  ("settings", "remedy"),
  [
    ({"optimizer": optax.sgd(0.1)}, "optax.chain(flatopt.sam(rho), optimizer)"),
    ({"adv_optimizer": optax.sgd(0.05)}, "flatopt.sam(rho, ascent=...)"),
    ({"sync_period": 2}, "flatopt.lookbehind"),
    ({"opaque_mode": True}, "pass grad_fn to update"),
    ({"reset_state": True}, "no state"),
    ({"batch_axis_name": "batch"}, "axis_name"),
    ({"adaptive": True}, "flatopt.asam"),
  ],
  ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_the_words_of_other_libraries_are_translated(settings, remedy):
  with raises(TypeError, f"sam: there is no argument {next(iter(settings))}", remedy):
    flatopt.sam(**settings)


def test_an_optimizer_in_the_place_of_rho():
  with raises(TypeError, "sam: rho must be a number", "optax.chain(flatopt.sam(...), optimizer)"):
    flatopt.sam(optax.sgd(0.1))


def test_errors_print_no_arrays():
  """Dtypes and shapes only, however the arrays got there."""
  tree = {"w": jnp.full(3, 0.12345)}
  calls = [
    lambda: flatopt.sam(tree),
    lambda: flatopt.sam(tree["w"]),
    lambda: flatopt.rst(tree),
    lambda: flatopt.sala(tree["w"]),
    lambda: flatopt.ire(key=tree["w"]),
    lambda: flatopt.ire(decay=tree["w"]),
    lambda: flatopt.lookahead(optax.sgd(0.1), sync_period=tree["w"]),
    lambda: flatopt.sam(sync_perturbation=tree["w"]),
    lambda: flatopt.sam(axis_name=tree["w"]),
    lambda: flatopt.lookbehind(optax.sgd(0.1), interpolation=tree),
    lambda: flatopt.lookbehind(optax.sgd(0.1), unroll=tree["w"]),
    lambda: flatopt.curvature.hutchinson(mode=tree["w"]),
    lambda: update("sam", grad_fn=tree),
    lambda: update("sam", grads=tree),
    lambda: update("sam", state=tree),
    lambda: flatopt.kth_smallest([tree["w"]], tree["w"]),
    lambda: flatopt.kth_smallest([tree["w"]], "1"),
    lambda: flatopt.trainable(optax.sgd(0.1), tree).init(tree),
    lambda: flatopt.sharpness.loss_landscape(lambda w: w["w"].sum(), tree, tree["w"]),
    lambda: flatopt.closures.micro_value_and_grad(None, tree["w"]),
  ]
  for call in calls:
    with pytest.raises((TypeError, ValueError)) as caught:
      call()
    assert "0.12345" not in str(caught.value)
    assert "Array(" not in str(caught.value)
