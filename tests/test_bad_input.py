"""Bad input raises, and the message names the method, the argument and what was seen."""

import functools
import inspect
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flatopt
from flatopt import curvature, schedules
from tests.methods import METHODS, SGD, public_name, unfilled, with_argument

ANY, POSITIVE, SHARE = (-math.inf, math.inf), (0, math.inf), (0, 1)
SCALARS = dict.fromkeys(("mixing", "low", "high", "peak"), ANY)
SCALARS |= dict.fromkeys(("rho", "eta", "kappa", "degree", "alpha", "sigma"), POSITIVE)
SCALARS |= dict.fromkeys(("probability", "flat_fraction", "slow_step_size", "interpolation"), SHARE)
SMALLEST = dict.fromkeys(("start_step", "start"), 0)
SMALLEST |= dict.fromkeys(
  ("update_interval", "interval", "ascent_steps", "unroll", "num_samples", "batch_size"), 1
)
SMALLEST |= {"num_steps": 1, "sync_period": 1}
FUNCTIONS = METHODS | {
  "rising_cosine": functools.partial(schedules.rising_cosine, num_steps=3),
  "from_step": schedules.from_step,
  "every": schedules.every,
  "expected_gradient_evaluations": functools.partial(
    flatopt.expected_gradient_evaluations, probability=0.5, num_steps=3
  ),
}


def named(arguments):
  """(name, argument, what the table holds for it) of all functions that have such an argument."""
  return [
    (name, argument, value)
    for name, function in FUNCTIONS.items()
    for argument, value in arguments.items()
    if argument in inspect.signature(function).parameters
  ]


def shown(name):
  """The name in error messages."""
  return public_name(name) if name in METHODS else name


def may_be_none(name, argument):
  function = getattr(FUNCTIONS[name], "func", FUNCTIONS[name])
  return inspect.signature(function).parameters[argument].default is None


NUMBERS = named(SCALARS)
INTEGERS = [
  (
    name,
    argument,
    {("sala", "sync_period"): 2, ("expected_gradient_evaluations", "num_steps"): 0}.get(
      (name, argument), smallest
    ),
  )
  for name, argument, smallest in named(SMALLEST)
]
PER_NAME = functools.partial(pytest.mark.parametrize, ids=lambda x: x if type(x) is str else None)


def raises(error, *parts):
  """Expects an error whose message has all these parts, in any order."""
  return pytest.raises(error, match="(?s)" + "".join(f"(?=.*{re.escape(p)})" for p in parts))


def make(name, **settings):
  return FUNCTIONS[name](**settings)


@PER_NAME(("name", "argument", "bounds"), NUMBERS)
class TestNumbers:
  def test_out_of_range(self, name, argument, bounds):
    low, high = bounds
    outside = [math.nan, math.inf, -math.inf]
    outside += [low - 0.25] if math.isfinite(low) else []
    outside += [high + 0.25] if math.isfinite(high) else []
    for value in outside:
      for number in (value, np.float64(value), np.array(value), jnp.array(value)):
        with raises(ValueError, f"{shown(name)}: {argument} must be", repr(value)):
          make(name, **{argument: number})

  def test_message_states_the_range(self, name, argument, bounds):
    allowed = {ANY: "finite", POSITIVE: ">= 0", SHARE: "in [0, 1]"}[bounds]
    with raises(ValueError, f"{shown(name)}: {argument} must be {allowed}; got nan"):
      make(name, **{argument: math.nan})

  def test_bounds_are_allowed(self, name, argument, bounds):
    for value in bounds:
      make(name, **{argument: value if math.isfinite(value) else 1e6})

  def test_no_number(self, name, argument, bounds):
    for value in ("0.5", True, None, [0.5], 1j, np.bool_(True)):
      if value is None and may_be_none(name, argument):
        continue
      error = (TypeError, ValueError) if argument == "interpolation" else TypeError
      with raises(error, f"{shown(name)}: {argument} must be", repr(value)):
        make(name, **{argument: value})

  def test_no_real_scalar_array(self, name, argument, bounds):
    for value in (jnp.ones(2), np.ones((1,)), jnp.array(True), np.array("1"), jax.random.key(0)):
      with raises(TypeError, f"{shown(name)}: {argument} must be", str(value.dtype)):
        make(name, **{argument: value})


@pytest.mark.parametrize("value", [jnp.array(1j), np.array(1j)], ids=["jax", "numpy"])
def test_complex_array(value):
  with raises(TypeError, "sam: rho must be", str(value.dtype)):
    flatopt.sam(value)


@PER_NAME(("name", "argument", "minimum"), INTEGERS)
class TestIntegers:
  def test_too_small(self, name, argument, minimum):
    for value in (minimum - 1, -3, np.int64(minimum - 1)):
      with raises(ValueError, f"{shown(name)}: {argument} must be >= {minimum}; got", repr(value)):
        make(name, **{argument: value})

  def test_minimum_is_allowed(self, name, argument, minimum):
    make(name, **{argument: minimum})
    make(name, **{argument: np.int32(minimum)})

  def test_no_integer(self, name, argument, minimum):
    for value, seen in ((2.0, "2.0"), ("2", "'2'"), (None, "None"), (jnp.array(2), "int32[]")):
      with raises(TypeError, f"{shown(name)}: {argument} must be a Python int; got {seen}"):
        make(name, **{argument: value})


@pytest.mark.parametrize("name", with_argument("decay"))
def test_decay(name):
  for value in (-0.25, 1.0, math.nan, math.inf):
    with raises(ValueError, f"{shown(name)}: decay must be in [0, 1); got", repr(value)):
      make(name, decay=value)
  for value, seen in (("0.5", "'0.5'"), (True, "True"), (jnp.array(0.5), "float32[]")):
    with raises(TypeError, f"{shown(name)}: decay must be a Python number; got {seen}"):
      make(name, decay=value)


def test_slow_momentum():
  for value in (-0.25, 1.0, math.nan):
    with raises(ValueError, "lookahead: slow_momentum must be in [0, 1); got", repr(value)):
      make("lookahead", slow_momentum=value)
  with raises(TypeError, "lookahead: slow_momentum must be a number", "'0.5'"):
    make("lookahead", slow_momentum="0.5")


@pytest.mark.parametrize("name", with_argument("key"))
def test_key(name):
  for key in (3, -1, 2**40, np.uint32(3), jax.random.key(0), jax.random.PRNGKey(0)):
    make(name, key=key)
  for key, seen in (("3", "'3'"), (1.5, "1.5"), (None, "None"), (jnp.ones(2), "float32[2]")):
    with raises(TypeError, f"{shown(name)}: key must be a Python int or a JAX key; got {seen}"):
      make(name, key=key)
  with raises(TypeError, f"{shown(name)}: key must be a Python int or a JAX key; got key<", "[2]"):
    make(name, key=jax.random.split(jax.random.key(0)))


AXES = [(name, axes) for axes in ("axis_name", "shard_axes") for name in with_argument(axes)]


@pytest.mark.parametrize(("name", "argument"), AXES)
def test_axes(name, argument):
  for axes in (None, "batch", ("hosts", "devices"), *([()] if argument == "shard_axes" else [])):
    make(name, **{argument: axes})
  for axes in (0, ["batch"], ("batch", 1), True, *([()] if argument == "axis_name" else [])):
    with raises(TypeError, f"{shown(name)}: {argument} must be", repr(axes)):
      make(name, **{argument: axes})


@pytest.mark.parametrize("name", with_argument("sync_perturbation"))
def test_sync_perturbation(name):
  for value in (None, 1, "yes"):
    with raises(TypeError, f"{shown(name)}: sync_perturbation must be True or False", repr(value)):
      make(name, sync_perturbation=value)


def test_sync_perturbation_of_ire_needs_rho():
  with raises(ValueError, "ire: sync_perturbation", "rho"):
    flatopt.ire(sync_perturbation=True)


def test_mode_of_hutchinson():
  with raises(ValueError, "hutchinson: mode must be", "forward-reverse", "'reverse'"):
    curvature.hutchinson(mode="reverse")


TRANSFORMATIONS = [
  (name, argument)
  for argument in ("ascent", "inner", "curvature", "base_optimizer", "optimizer")
  for name in with_argument(argument)
]


@pytest.mark.parametrize(("name", "argument"), TRANSFORMATIONS)
def test_no_transformation(name, argument):
  method = lambda x: unfilled(name)(**{argument: x})
  values = {
    "the function sgd (call it: sgd(...))": optax.sgd,
    "'sgd'": "sgd",
    "a tuple": (SGD.init, SGD.update),
    "a MultiSteps (an optax.MultiSteps becomes one": optax.MultiSteps(SGD, 2),
    "{w: float32[3]}": {"w": jnp.ones(3)},
  }
  for seen, value in values.items():
    with raises(TypeError, f"{shown(name)}: {argument} must be an optax.Gradient", f"got {seen}"):
      method(value)
  method(optax.MultiSteps(SGD, 2).gradient_transformation())


STATICS = [
  *((name, argument, minimum) for name, argument, minimum in INTEGERS if name in METHODS),
  *((name, "key", 0) for name in with_argument("key")),
  *((name, "decay", 0.5) for name in with_argument("decay")),
]


@PER_NAME(("name", "argument", "value"), STATICS)
def test_traced_static_argument(name, argument, value):
  """inject_hyperparams traces every number that static_args does not name."""
  static_args = set(inspect.signature(METHODS[name]).parameters) - {argument}
  injected = optax.inject_hyperparams(METHODS[name], static_args)(**{argument: value})
  with raises(TypeError, f"{shown(name)}: {argument} must", "static_args"):
    injected.init(jnp.ones(2))


class TestKthSmallest:
  def test_rank(self):
    for k in (0, -1, 4, np.int64(0)):
      with raises(ValueError, "kth_smallest: k must be from 1 to 3", f"got {k}"):
        flatopt.kth_smallest(jnp.ones(3), k)
    for k in (1.0, "1", True, None, np.float32(1)):
      with raises(TypeError, "kth_smallest: k must be an integer", repr(k)):
        flatopt.kth_smallest(jnp.ones(3), k)
    for k in (jnp.array(1.0), jnp.array([1]), np.array(1.0), jnp.array(True)):
      with raises(TypeError, "kth_smallest: k must be an integer", str(k.dtype)):
        flatopt.kth_smallest(jnp.ones(3), k)

  def test_tree(self):
    for tree in ({}, None, jnp.zeros((0, 3)), [jnp.zeros(0)]):
      with raises(ValueError, "kth_smallest: tree has no entries"):
        flatopt.kth_smallest(tree, 1)
    for leaf in (jnp.arange(3), jnp.array([True]), jnp.ones(2, jnp.complex64)):
      with raises(TypeError, "kth_smallest: tree holds", str(leaf.dtype), "floating"):
        flatopt.kth_smallest([jnp.ones(2), leaf], 1)

  def test_leaf_too_large(self):
    leaf = jax.ShapeDtypeStruct((2**16, 2**15), jnp.bfloat16)
    with raises(ValueError, "kth_smallest: a leaf has 2147483648 entries", "2^31"):
      jax.eval_shape(lambda x: flatopt.kth_smallest(x, 1), leaf)
    leaf = jax.ShapeDtypeStruct((2**31 - 1,), jnp.bfloat16)
    assert jax.eval_shape(lambda x: flatopt.kth_smallest([x, x], 1), leaf).shape == ()


def test_interpolation_names_its_one_word():
  with raises(ValueError, "lookbehind: interpolation", '"adaptive"', "'cosine'"):
    flatopt.lookbehind(SGD, interpolation="cosine")
