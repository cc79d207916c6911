"""Extra arguments, ``step``, hyper-parameters that change, checkpoints, optax wrappers."""

import chex
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest

import flatopt
from tests import problem
from tests.conformance.cases import CASES, each_case_in_time
from tests.methods import METHODS, with_argument

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def recorder(seen):
  """A transformation that notes which extra arguments reach it."""

  def update(updates, state, params=None, **extra_args):
    del params
    seen.append(extra_args)
    return updates, state

  return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


@each_case
def test_unknown_extra_arguments_are_accepted(case):
  optimizer = case.make()
  params = problem.make_params()
  fns = problem.closures(problem.make_batch())
  jax.eval_shape(
    lambda p: optimizer.update(fns["grad_fn"](p), optimizer.init(p), p, loss=1.0, **fns), params
  )


@pytest.mark.parametrize(
  "wrap",
  [
    lambda inner: flatopt.rst(inner, 1.0),
    lambda inner: flatopt.g_rst(inner, 1.0),
    lambda inner: flatopt.ae_sam(inner, num_steps=3),
    lambda inner: flatopt.sam(ascent=inner),
    flatopt.lookahead,
    flatopt.weight_average,
    flatopt.sala,
    lambda inner: flatopt.lookbehind(inner, ascent_steps=1),
    lambda inner: flatopt.ire(curvature=inner),
    lambda inner: flatopt.ire(rho=0.05, curvature=inner),
  ],
  ids=[
    "rst",
    "g_rst",
    "ae_sam",
    "sam",
    "lookahead",
    "weight_average",
    "sala",
    "lookbehind",
    "ire",
    "ire_rho",
  ],
)
def test_extra_arguments_reach_what_is_inside(wrap):
  seen = []
  optimizer = wrap(recorder(seen))
  params = problem.make_params()
  fns = problem.closures(problem.make_batch())
  updates = fns["grad_fn"](params)
  optimizer.update(updates, optimizer.init(params), params, flavour="own", step=5, **fns)
  assert seen
  for extra_args in seen:
    assert extra_args["flavour"] == "own"
    assert extra_args["step"] == 5
    assert extra_args["grad_fn"] is fns["grad_fn"]
    assert extra_args["sampled_grad_fn"] is fns["sampled_grad_fn"]


SCALARS = (
  *("rho", "eta", "alpha", "sigma", "kappa", "flat_fraction", "probability", "mixing", "degree"),
  *("low", "high", "slow_step_size", "interpolation"),
)


@pytest.mark.parametrize(
  ("name", "argument"),
  [(name, argument) for argument in SCALARS for name in with_argument(argument)],
)
def test_schedules_read_the_count_or_the_step_that_is_given(name, argument):
  seen = []
  method = METHODS[name](**{argument: lambda t: seen.append(int(t)) or 0.5})
  w = jnp.ones(3)
  fns = {"grad_fn": lambda w: 2 * w, "sampled_grad_fn": lambda w, key: 2 * w}
  for count in (3, 4):  # what is read at every second update is read at one of them
    state = method.init(w)._replace(count=jnp.array(count))
    for step in ({}, {"step": 7 + count}):
      jax.eval_shape(lambda w, state=state, step=step: method.update(w, state, w, **step, **fns), w)
  assert {*seen} in ({3, 4, 10, 11}, {3, 10}, {4, 11})


@pytest.mark.filterwarnings("ignore:Sharding info")  # older Orbax, after a test on several devices
@each_case_in_time
def test_checkpoint_round_trip(case, tmp_path):
  optimizer = case.make()
  params = problem.make_params()
  step = jax.jit(problem.make_step(optimizer))
  params, state = step(params, optimizer.init(params), problem.make_batch(0))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "state", (params, state))
    checkpointer.wait_until_finished()
    shapes = jax.eval_shape(lambda: (params, state))
    restored = checkpointer.restore(tmp_path / "state", shapes)
  batch = problem.make_batch(1)
  chex.assert_trees_all_equal(step(*restored, batch), step(params, state, batch))


INJECTABLE = {
  "sam": (flatopt.sam, (), {"rho": 0.1}),
  "asam": (flatopt.asam, (), {"rho": 0.5, "eta": 0.02}),
  "rst": (flatopt.rst, ("key",), {"inner": flatopt.sam(0.1), "probability": 0.5, "mixing": 0.7}),
  "g_rst": (flatopt.g_rst, ("key",), {"inner": flatopt.sam(0.1), "degree": 0.5}),
  "ae_sam": (
    flatopt.ae_sam,
    ("num_steps", "decay"),
    {"inner": flatopt.sam(0.1), "num_steps": 12, "low": 1.5, "high": 1.5},
  ),
  "ire_rho": (
    flatopt.ire,
    ("update_interval", "start_step", "decay", "key"),
    {"rho": 0.1, "kappa": 1.0, "flat_fraction": 0.5},
  ),
  "ire": (
    flatopt.ire,
    ("update_interval", "start_step", "decay", "key"),
    {"kappa": 1.0, "flat_fraction": 0.5},
  ),
  "lookahead": (
    flatopt.lookahead,
    ("sync_period",),
    {"base_optimizer": optax.sgd(0.1), "slow_step_size": 0.3},
  ),
  "sala": (
    flatopt.sala,
    ("sync_period",),
    {"base_optimizer": optax.sgd(0.1), "slow_step_size": 0.3, "rho": 0.2},
  ),
  "lookbehind": (
    flatopt.lookbehind,
    ("ascent_steps", "unroll"),
    {"base_optimizer": optax.sgd(0.1), "rho": 0.1, "eta": 0.1, "interpolation": 0.4},
  ),
}


@pytest.mark.parametrize("name", INJECTABLE)
def test_inject_hyperparams(x64, name):
  """Injected numbers act as plain ones do, and a changed one acts without a new trace."""
  factory, static_args, hyperparams = INJECTABLE[name]
  injected = optax.inject_hyperparams(factory, static_args=static_args)(**hyperparams)
  params = problem.make_params()
  state = injected.init(params)
  chex.clear_trace_counter()
  step = jax.jit(chex.assert_max_traces(problem.make_step(injected), n=1))
  plain = factory(**hyperparams)
  plain_step = jax.jit(problem.make_step(plain))
  expected = params, plain.init(params)
  for seed in range(6):
    batch = problem.make_batch(seed)
    params, state = step(params, state, batch)
    expected = plain_step(*expected, batch)
  chex.assert_trees_all_close(params, expected[0], rtol=1e-10)

  halved = {key: 0.5 * value for key, value in state.hyperparams.items()}
  kept_end = params, state
  halved_end = params, state._replace(hyperparams=halved)
  for seed in range(6):
    kept_end = step(*kept_end, problem.make_batch(seed))
    halved_end = step(*halved_end, problem.make_batch(seed))
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(halved_end[0], kept_end[0], rtol=1e-3)
