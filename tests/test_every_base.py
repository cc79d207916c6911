"""Every optimizer that optax exports, as the base under every method."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from tests import problem
from tests.conformance.cases import CASES

contrib = optax.contrib
SGD = optax.sgd(0.01)

ALIASES = {
  "adabelief": lambda: optax.adabelief(0.01),
  "adadelta": lambda: optax.adadelta(0.1),
  "adafactor": lambda: optax.adafactor(0.01, min_dim_size_to_factor=4),
  "adagrad": lambda: optax.adagrad(0.1),
  "adam": lambda: optax.adam(0.01),
  "adamax": lambda: optax.adamax(0.01),
  "adamaxw": lambda: optax.adamaxw(0.01),
  "adamw": lambda: optax.adamw(0.01),
  "adan": lambda: optax.adan(0.01),
  "amsgrad": lambda: optax.amsgrad(0.01),
  "fromage": lambda: optax.fromage(0.01),
  "lamb": lambda: optax.lamb(0.01),
  "lars": lambda: optax.lars(0.1),
  "lbfgs": lambda: optax.lbfgs(),
  "lion": lambda: optax.lion(0.001),
  "nadam": lambda: optax.nadam(0.01),
  "nadamw": lambda: optax.nadamw(0.01),
  "noisy_sgd": lambda: optax.noisy_sgd(0.01, eta=1e-4, key=0),
  "novograd": lambda: optax.novograd(0.01),
  "optimistic_adam_v2": lambda: optax.optimistic_adam_v2(0.01),
  "optimistic_gradient_descent": lambda: optax.optimistic_gradient_descent(0.01),
  "polyak_sgd": lambda: optax.polyak_sgd(1.0),
  "radam": lambda: optax.radam(0.01),
  "rmsprop": lambda: optax.rmsprop(0.01),
  "rprop": lambda: optax.rprop(0.01),
  "sgd": lambda: optax.sgd(0.01, momentum=0.9, nesterov=True),
  "sign_sgd": lambda: optax.sign_sgd(0.01),
  "signum": lambda: optax.signum(0.01),
  "sm3": lambda: optax.sm3(0.1),
  "yogi": lambda: optax.yogi(0.01),
}
LINE_SEARCHES = {
  "scale_by_backtracking_linesearch": lambda: optax.chain(
    optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)
  ),
  "scale_by_zoom_linesearch": lambda: optax.chain(
    optax.sgd(1.0), optax.scale_by_zoom_linesearch(5)
  ),
}
CONTRIB = {
  "acprop": lambda: contrib.acprop(0.01),
  "ademamix": lambda: contrib.ademamix(0.01),
  "adopt": lambda: contrib.adopt(0.01),
  "cocob": lambda: contrib.cocob(),
  "dadapt_adamw": lambda: contrib.dadapt_adamw(),
  "dog": lambda: contrib.dog(),
  "dowg": lambda: contrib.dowg(),
  "galore": lambda: contrib.galore(0.01, rank=2),
  "madgrad": lambda: contrib.madgrad(0.01),
  "mechanize": lambda: contrib.mechanize(optax.sgd(1.0), s_init=0.01),
  "momo": lambda: contrib.momo(0.1),
  "momo_adam": lambda: contrib.momo_adam(0.01),
  "muon": lambda: contrib.muon(0.01),
  "prodigy": lambda: contrib.prodigy(0.1),
  "reduce_on_plateau": lambda: optax.chain(SGD, contrib.reduce_on_plateau()),
  # Its update takes no extra arguments, though its type says so.
  "sam": lambda: optax.GradientTransformation(*contrib.sam(SGD, optax.sgd(0.05))),
  "schedule_free": lambda: contrib.schedule_free(SGD, 0.01),
  "schedule_free_adamw": lambda: contrib.schedule_free_adamw(),
  "schedule_free_sgd": lambda: contrib.schedule_free_sgd(0.1),
  "simplified_ademamix": lambda: contrib.simplified_ademamix(1e-4),
  "sophia": lambda: contrib.sophia(0.01),
}
# The oldest optax lacks some of them.
ALL = [(optax, "optax", ALIASES | LINE_SEARCHES), (contrib, "contrib", CONTRIB)]
BASES = {
  f"{prefix}.{name}": make()
  for module, prefix, bases in ALL
  for name, make in bases.items()
  if hasattr(module, name)
}

# Beside these optax exports ``optimistic_adam``, the deprecated name of ``optimistic_adam_v2``;
# ``lookahead``, which takes a pair of params, and ``contrib.dpsgd``, which takes the gradient of
# every example: both have a test below. And ``contrib`` exports what is no optimizer:
PARTS = {
  "differentially_private_aggregate",
  "hutchinson_estimator_diag_hessian",
  "normalize",
  "schedule_free_eval_params",
  "split_real_and_imaginary",
}

# They want ``value``, ``grad`` and ``value_fn``, and raise on any other argument.
SEARCHES = {"optax.lbfgs", *(f"optax.{name}" for name in LINE_SEARCHES)}


def run(optimizer, is_line_search, num_steps=4):
  """The params after some steps."""
  optimizer = optax.with_extra_args_support(optimizer)

  @jax.jit
  def step(params, state, batch):
    value, grads = jax.value_and_grad(problem.loss_fn)(params, batch)
    fns = problem.closures(batch)
    # ``sampled_grad_fn`` is a parameter so that a line search lets it pass.
    value_fn = lambda params, sampled_grad_fn=None: problem.loss_fn(params, batch)
    if is_line_search:
      fns = {"sampled_grad_fn": fns["sampled_grad_fn"], "value_fn": value_fn, "grad": grads}
    updates, state = optimizer.update(grads, state, params, value=value, **fns)
    return optax.apply_updates(params, updates), state

  params = problem.make_params()
  state = optimizer.init(params)
  for seed in range(num_steps):
    params, state = step(params, state, problem.make_batch(seed))
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
@jax.numpy_dtype_promotion("standard")  # some of optax's own promote
def test_every_method_is_finite_where_its_base_is(name):
  start = np.concatenate([np.ravel(x) for x in jax.tree.leaves(problem.make_params())])
  optimizers = {"the base alone": BASES[name]}
  optimizers |= {case.name: case.make(BASES[name]) for case in CASES}
  ends = {key: run(value, name in SEARCHES) for key, value in optimizers.items()}
  not_finite = [key for key, end in ends.items() if not np.all(np.isfinite(end))]
  assert not not_finite
  assert not [key for key, end in ends.items() if np.array_equal(end, start)]


def functions_of(module):
  is_function = lambda x: inspect.isfunction(x) or isinstance(x, functools.partial)
  return {name for name, x in vars(module).items() if is_function(x) and name[0] != "_"}


def test_the_list_has_all_that_optax_exports():
  is_alias = lambda x: inspect.getmodule(getattr(x, "func", x)) is inspect.getmodule(optax.adam)
  exported = {name for name in functions_of(optax) if is_alias(getattr(optax, name))}
  searches = {name for name in functions_of(optax) if name.endswith("_linesearch")}
  assert exported | searches <= {*ALIASES, *LINE_SEARCHES, "optimistic_adam"}
  exported = {name for name in functions_of(contrib) if not name.startswith("scale_by_")}
  assert exported <= {*CONTRIB, *PARTS, "dpsgd"}


def test_a_pair_of_params_is_refused():
  pair = optax.LookaheadParams.init_synced(problem.make_params())
  optimizer = flatopt.sala(optax.lookahead(SGD, sync_period=2, slow_step_size=0.5))
  state = optimizer.init(pair)
  grads = problem.make_params()
  with pytest.raises(ValueError, match="sala: updates has no array at"):
    optimizer.update(grads, state, pair, grad_fn=lambda params: grads)


def test_gradients_of_every_example_are_refused():
  optimizer = optax.chain(
    flatopt.sam(0.1), contrib.differentially_private_aggregate(1.0, 0.1, key=0)
  )
  params = jnp.ones(3)
  with pytest.raises(ValueError, match=r"sam: updates has shape \(8, 3\); params have \(3,\)"):
    optimizer.update(
      jnp.ones((8, 3)), optimizer.init(params), params, grad_fn=lambda p: jnp.ones((8, 3))
    )


def test_contrib_sam_refuses_extra_arguments():
  params = jnp.ones(3)
  optimizer = flatopt.lookahead(contrib.sam(SGD, optax.sgd(0.05)))
  with pytest.raises(TypeError, match="unexpected keyword argument 'value'"):
    optimizer.update(params, optimizer.init(params), params, value=1.0)
