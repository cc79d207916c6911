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
  "adabelief": optax.adabelief(0.01),
  "adadelta": optax.adadelta(0.1),
  "adafactor": optax.adafactor(0.01, min_dim_size_to_factor=4),
  "adagrad": optax.adagrad(0.1),
  "adam": optax.adam(0.01),
  "adamax": optax.adamax(0.01),
  "adamaxw": optax.adamaxw(0.01),
  "adamw": optax.adamw(0.01),
  "adan": optax.adan(0.01),
  "amsgrad": optax.amsgrad(0.01),
  "fromage": optax.fromage(0.01),
  "lamb": optax.lamb(0.01),
  "lars": optax.lars(0.1),
  "lbfgs": optax.lbfgs(),
  "lion": optax.lion(0.001),
  "nadam": optax.nadam(0.01),
  "nadamw": optax.nadamw(0.01),
  "noisy_sgd": optax.noisy_sgd(0.01, eta=1e-4, key=0),
  "novograd": optax.novograd(0.01),
  "optimistic_adam_v2": optax.optimistic_adam_v2(0.01),
  "optimistic_gradient_descent": optax.optimistic_gradient_descent(0.01),
  "polyak_sgd": optax.polyak_sgd(1.0),
  "radam": optax.radam(0.01),
  "rmsprop": optax.rmsprop(0.01),
  "rprop": optax.rprop(0.01),
  "sgd": optax.sgd(0.01, momentum=0.9, nesterov=True),
  "sign_sgd": optax.sign_sgd(0.01),
  "signum": optax.signum(0.01),
  "sm3": optax.sm3(0.1),
  "yogi": optax.yogi(0.01),
}
LINE_SEARCHES = {
  "scale_by_backtracking_linesearch": optax.chain(
    optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)
  ),
  "scale_by_zoom_linesearch": optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(5)),
}
CONTRIB = {
  "acprop": contrib.acprop(0.01),
  "ademamix": contrib.ademamix(0.01),
  "adopt": contrib.adopt(0.01),
  "cocob": contrib.cocob(),
  "dadapt_adamw": contrib.dadapt_adamw(),
  "dog": contrib.dog(),
  "dowg": contrib.dowg(),
  "galore": contrib.galore(0.01, rank=2),
  "madgrad": contrib.madgrad(0.01),
  "mechanize": contrib.mechanize(optax.sgd(1.0), s_init=0.01),
  "momo": contrib.momo(0.1),
  "momo_adam": contrib.momo_adam(0.01),
  "muon": contrib.muon(0.01),
  "prodigy": contrib.prodigy(0.1),
  "reduce_on_plateau": optax.chain(SGD, contrib.reduce_on_plateau()),
  # Its update takes no extra arguments, though its type says so.
  "sam": optax.GradientTransformation(*contrib.sam(SGD, optax.sgd(0.05))),
  "schedule_free": contrib.schedule_free(SGD, 0.01),
  "schedule_free_adamw": contrib.schedule_free_adamw(),
  "schedule_free_sgd": contrib.schedule_free_sgd(0.1),
  "simplified_ademamix": contrib.simplified_ademamix(1e-4),
  "sophia": contrib.sophia(0.01),
}
BASES = {f"optax.{name}": base for name, base in (ALIASES | LINE_SEARCHES).items()}
BASES |= {f"contrib.{name}": base for name, base in CONTRIB.items()}

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
  assert exported | searches == {*ALIASES, *LINE_SEARCHES, "optimistic_adam"}
  exported = {name for name in functions_of(contrib) if not name.startswith("scale_by_")}
  assert exported == {*CONTRIB, *PARTS, "dpsgd"}


def test_a_pair_of_params_is_refused():
  pair = optax.LookaheadParams.init_synced(problem.make_params())
  optimizer = flatopt.sala(optax.lookahead(SGD, sync_period=2, slow_step_size=0.5))
  state = optimizer.init(pair)
  grads = problem.make_params()
  with pytest.raises(ValueError, match="sala: updates has the structure"):
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
