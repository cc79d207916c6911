"""States as trainers treat them: mapped over, flattened, restored, read without a transfer."""

import chex
import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import flatopt
from tests import problem
from tests.conformance.cases import CASES
from tests.versions import enable_x64

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@each_case
def test_map_params(case):
  """Every params-like tree in the state is found, as for optax's own optimizers."""
  optimizer = case.make()
  params = problem.make_params()
  state = optimizer.init(params)
  names = {"hidden": {"kernel": "HK", "bias": "HB"}, "out": {"kernel": "OK", "bias": "OB"}}
  shapes = {(4, 5): "HK", (5,): "HB", (5, 3): "OK", (3,): "OB", (): "scalar"}
  mapped = optax.tree.map_params(
    optimizer, lambda _, name: name, state, names, transform_non_params=lambda _: "scalar"
  )
  expected = jax.tree.map(lambda x: shapes[x.shape], state)
  assert mapped == expected


@each_case
def test_nothing_grows_to_64_bits_beside_float32_params(case):
  optimizer = case.make()
  with enable_x64(True):
    params, batch = problem.make_params(jnp.float32), problem.make_batch(dtype=jnp.float32)
    state = optimizer.init(params)
    new = jax.eval_shape(problem.make_step(optimizer), params, state, batch)
  assert new == jax.eval_shape(lambda: (params, state))
  assert max(x.dtype.itemsize for x in jax.tree.leaves(new)) == 4


@each_case
def test_savers_that_flatten_dicts(case):
  """No ``None`` in any state, and what flax flattens and restores is the state."""
  state = case.make().init(problem.make_params())
  is_none = lambda x: x is None
  assert not any(map(is_none, jax.tree.leaves(state, is_leaf=is_none)))
  as_dict = flax.serialization.to_state_dict(state)
  flat = flax.traverse_util.flatten_dict(as_dict, keep_empty_nodes=True, sep="/")
  again = flax.serialization.from_state_dict(state, flax.traverse_util.unflatten_dict(flat, "/"))
  chex.assert_trees_all_equal(again, state)


WRAPPED = {
  "lookahead": flatopt.lookahead(optax.sgd(0.1)),
  "sala": flatopt.sala(optax.adam(0.1)),
  "sam": optax.chain(flatopt.sam(), optax.sgd(0.1, momentum=0.9)),
  "ire": optax.chain(optax.sgd(0.1), flatopt.ire()),
}


def untyped(state, tmp_path, how):
  if how == "flax":
    return flax.serialization.msgpack_restore(flax.serialization.to_bytes(state))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "state", state)
    checkpointer.wait_until_finished()
    return checkpointer.restore(tmp_path / "state")


@pytest.mark.parametrize("how", ["flax", "orbax"])
@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.filterwarnings("ignore:.*[Ss]harding")  # Orbax, of a restore without a target
def test_states_that_lost_their_types_say_so(name, how, tmp_path):
  params = problem.make_params()
  optimizer = WRAPPED[name]
  restored = untyped(optimizer.init(params), tmp_path, how)
  remedy = r"lost its types.*optimizer\.init\(params\)"
  with pytest.raises(TypeError, match=f"eval_params: opt_state holds.*{remedy}"):
    flatopt.eval_params(restored, params)
  with pytest.raises(TypeError, match=f"metrics: opt_state holds.*{remedy}"):
    flatopt.metrics(restored)
  with pytest.raises(TypeError, match=f"extra_gradient_evaluations: opt_state holds.*{remedy}"):
    flatopt.extra_gradient_evaluations(restored)


@pytest.mark.parametrize("name", ["lookahead", "sala"])
def test_update_with_a_state_that_lost_its_type_names_the_method(name):
  params = problem.make_params()
  restored = flax.serialization.to_state_dict(WRAPPED[name].init(params))
  fns = problem.closures(problem.make_batch())
  message = rf"{name}: state must be a \w+State, .* got dict\..*optimizer\.init\(params\)"
  with pytest.raises(TypeError, match=message):
    WRAPPED[name].update(fns["grad_fn"](params), restored, params, **fns)


def test_typed_restores_are_read_as_they_were(tmp_path):
  params = problem.make_params()
  optimizer = WRAPPED["sala"]
  state = optimizer.init(params)
  as_dict = flax.serialization.to_state_dict(state)
  restored = flax.serialization.from_state_dict(optimizer.init(params), as_dict)
  assert flatopt.metrics(restored).keys() == flatopt.metrics(state).keys()


def test_states_without_arrays_or_of_optax_alone_are_no_mistake():
  assert flatopt.metrics(optax.sgd(0.1).init(jnp.ones(2))) == {}
  named = optax.named_chain(("adam", optax.adam(0.1)))
  assert int(flatopt.extra_gradient_evaluations(named.init(jnp.ones(2)))) == 0
  assert flatopt.eval_params((), 3) == 3


@each_case
def test_cost_is_read_without_a_transfer(case):
  state = case.make().init(problem.make_params())
  with jax.transfer_guard("disallow"):
    count = flatopt.extra_gradient_evaluations(state)
    alone = flatopt.extra_gradient_evaluations(optax.EmptyState())
  assert count.dtype == alone.dtype == np.int32
  assert int(count) == int(alone) == 0


VALUE_FUNCTIONS = {
  "value_fn": lambda batch: {"value_fn": lambda params: problem.loss_fn(params, batch)},
  "obj_fn": lambda batch: {"obj_fn": lambda params: problem.loss_fn(params, batch)},
  # As optax's line searches call it: with the extra arguments that it has names for.
  "value_fn and batch": lambda batch: {"value_fn": problem.loss_fn, "batch": batch},
}


@pytest.mark.parametrize("given", VALUE_FUNCTIONS)
@pytest.mark.parametrize(
  "case",
  [c for c in CASES if c.name in ("sam", "rst", "sala", "ire_hutchinson")],
  ids=lambda c: c.name,
)
def test_a_value_function_stands_in_for_grad_fn(x64, case, given):
  optimizer = case.make()
  params = problem.make_params()
  batch = problem.make_batch()
  state = optimizer.init(params)
  fns = problem.closures(batch)
  grads = fns["grad_fn"](params)
  expected, _ = optimizer.update(grads, state, params, **fns)
  sampled = {"sampled_grad_fn": fns["sampled_grad_fn"]}
  found, _ = optimizer.update(grads, state, params, **sampled, **VALUE_FUNCTIONS[given](batch))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
