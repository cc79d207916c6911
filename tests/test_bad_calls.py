"""What ``init`` and ``update`` are called with: bad trees and closures raise as bad settings do."""

import jax
import jax.numpy as jnp
import optax
import pytest

import flatopt
from tests.methods import METHODS, OPTIMIZERS, SGD, public_name, unfilled, with_argument
from tests.test_bad_input import raises

IDENTITY = lambda params: params
PARAMS = {"a": jnp.ones(3), "b": [jnp.ones((2, 2))]}


def update(name, *, grads=PARAMS, params=PARAMS, state=None, **extra_args):
  method = METHODS[name]()
  state = method.init(PARAMS) if state is None else state
  closures = {"grad_fn": IDENTITY, "sampled_grad_fn": lambda params, key: params}
  return method.update(grads, state, params, **closures | extra_args)


@pytest.mark.parametrize("name", METHODS)
class TestTrees:
  def test_good(self, name):
    update(name)

  def test_params_missing(self, name):
    with raises(
      ValueError, f"{public_name(name)}: params is None", "update(updates, state, params"
    ):
      update(name, params=None)

  def test_params_empty(self, name):
    for empty in ({}, [], (), None):
      with raises(ValueError, f"{public_name(name)}: params is an empty pytree", repr(empty)):
        METHODS[name]().init(empty)
    with raises(ValueError, f"{public_name(name)}: params is an empty pytree ({{}})"):
      update(name, params={}, grads={})

  def test_params_not_floating(self, name):
    leaves = {
      "int32": (jnp.arange(3), 3),
      "bool": (jnp.array([True]),),
      "complex64; params must be real": (jnp.ones(2, jnp.complex64),),
      "'relu'; params must be arrays": ("relu",),
      "the function relu; params must be arrays": (jax.nn.relu,),
    }
    if name in ("lookahead", "weight_average", "finish"):
      params = [*leaves.pop("complex64; params must be real")]
      update(name, grads=params, params=params, state=METHODS[name]().init(params))
    for seen, leaf in ((seen, leaf) for seen, found in leaves.items() for leaf in found):
      params = {"a": jnp.ones(3), "b": [leaf]}
      for call in (METHODS[name]().init, lambda params: update(name, params=params)):
        with raises(TypeError, f"{public_name(name)}: params['b'][0] is {seen}"):
          call(params)

  def test_params_masked(self, name):
    params = {"a": jnp.ones(3), "b": [optax.MaskedNode()]}
    for call in (METHODS[name]().init, lambda params: update(name, params=params)):
      with raises(
        ValueError, f"{public_name(name)}: params['b'][0] is optax.MaskedNode", "outside optax.mask"
      ):
        call(params)


BAD_TREES = {
  "no array at ['b'][0], where params have one": {"a": jnp.ones(3), "b": [None]},
  "an array at ['c'], where params have none": PARAMS | {"c": jnp.ones(2)},
  "the structure": {"a": jnp.ones(3), "b": (jnp.ones((2, 2)),)},
  "shape (4, 2)": {"a": jnp.ones(3), "b": [jnp.ones((4, 2))]},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_unlike_params(name):
  for seen, tree in BAD_TREES.items():
    with raises(ValueError, f"{public_name(name)}: updates", f"has {seen}"):
      update(name, grads=tree)


def keeps_a_tree(name):
  """Whether the state has leaves like the params."""
  return any(jnp.shape(x) == (3,) for x in jax.tree.leaves(METHODS[name]().init(PARAMS)))


@pytest.mark.parametrize("name", [name for name in METHODS if keeps_a_tree(name)])
def test_state_unlike_params(name):
  for seen, tree in BAD_TREES.items():
    state = METHODS[name]().init(tree)
    with raises(ValueError, f"{public_name(name)}: ", " in the state", f"has {seen}"):
      update(name, state=state)


WITHOUT_GRAD_FN = (
  "lookahead",
  "momentum_sam",
  "weight_average",
  "finish",
  "ire",
  "gauss_newton_bartlett",
)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in WITHOUT_GRAD_FN])
class TestGradFn:
  def name_of_user(self, name):
    return "sam" if name in with_argument("inner") else public_name(name)

  def test_missing(self, name):
    with raises(ValueError, f"{self.name_of_user(name)}: grad_fn is missing", "grad_fn=grad_fn"):
      update(name, grad_fn=None)

  def test_no_function(self, name):
    with raises(TypeError, f"{self.name_of_user(name)}: grad_fn must be a function; got 3"):
      update(name, grad_fn=3)

  def test_returns_another_tree(self, name):
    user = self.name_of_user(name)
    value_and_grad = lambda params: (jnp.zeros(()), params)
    for grad_fn in (value_and_grad, lambda params: {"a": params["a"]}):
      with raises(ValueError, f"{user}: the result of grad_fn has"):
        update(name, grad_fn=grad_fn)
    with raises(ValueError, f"{user}: the result of grad_fn['a'] has shape ()"):
      update(name, grad_fn=lambda params: params | {"a": jnp.sum(params["a"])})


def test_sampled_grad_fn():
  name = "gauss_newton_bartlett"
  with raises(ValueError, f"{name}: sampled_grad_fn is missing", "closures.sampled_label_grad_fn"):
    update(name, sampled_grad_fn=None)
  with raises(TypeError, f"{name}: sampled_grad_fn must be a function; got 'g'"):
    update(name, sampled_grad_fn="g")
  with raises(ValueError, f"{name}: the result of sampled_grad_fn has"):
    update(name, sampled_grad_fn=lambda params, key: (0.0, params))


def test_curvature_of_ire():
  """The closure of the default estimator is asked for in the name of ire, which the user wrote."""
  with raises(ValueError, "ire: grad_fn is missing"):
    flatopt.ire().update(PARAMS, flatopt.ire().init(PARAMS), PARAMS)
  loss_like = flatopt.ire(curvature=optax.stateless(lambda updates, params: updates["a"]))
  with raises(ValueError, "ire: the curvature estimate has no array at ['a']"):
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
  for mask, seen in (
    ({"a": True}, "no entry for params['b'][0]"),
    ({"a": True, "b": True, "c": True}, "nothing for its entry mask['c']"),
  ):
    method = METHODS[name](**settings, **{argument: mask})
    with raises(ValueError, f"{name}: {argument} does not fit the params", seen):
      method.update(PARAMS, method.init(PARAMS), PARAMS, grad_fn=IDENTITY)


def test_a_value_fn_with_auxiliary_output_is_named():
  value_fn = lambda params: (jnp.sum(params["a"]), {"accuracy": 0.5})
  with raises(TypeError, "sam: value_fn must return a real floating scalar", "without aux"):
    update("sam", grad_fn=None, value_fn=value_fn)


@pytest.mark.parametrize("name", with_argument("inner"))
def test_a_schedule_that_would_count_other_steps_is_refused(name):
  injected = optax.inject_hyperparams(flatopt.sam)(rho=optax.linear_schedule(0.0, 1.0, 10))
  with raises(ValueError, f"{name}: the schedule for rho", "flatopt.sam(rho=schedule)"):
    unfilled(name)(injected).init(PARAMS)
  unfilled(name)(optax.inject_hyperparams(flatopt.sam)(rho=0.1)).init(PARAMS)


def test_flax_train_state_that_drops_the_closure_is_named():
  from flax.training import train_state

  state = train_state.TrainState.create(
    apply_fn=None, params=PARAMS, tx=optax.chain(flatopt.sam(), optax.sgd(0.1))
  )
  with raises(ValueError, "sam: grad_fn is missing", "flatopt.linen.TrainState", "sharp_loss"):
    state.apply_gradients(grads=PARAMS, grad_fn=IDENTITY)


def test_factories_that_were_not_called_are_named():
  gauss_newton_bartlett = flatopt.curvature.gauss_newton_bartlett
  with raises(TypeError, "curvature must be", "call it: gauss_newton_bartlett(...)"):
    flatopt.ire(curvature=gauss_newton_bartlett)
  with raises(TypeError, "sala: base_optimizer must be", "call it: sgd(...)"):
    flatopt.sala(optax.sgd)
  with raises(TypeError, "rst: inner must be", "call it: sam(...)"):
    flatopt.rst(flatopt.sam)


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
