"""Masks in the forms that users have them: dicts, prefixes, functions, and other libraries' trees."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict

import flatopt
from flatopt import _pure_nnx

OF_A_DICT = {"kernel": jnp.array([[1.0, -2.0], [0.5, 1.0]]), "bias": jnp.array([1.0, 3.0])}
GRAD_FN = lambda tree: jax.tree.map(lambda x: 4 * x**3, tree)


def perturbed_at(method, params):
  """What reaches the closure, as arrays in the order of the leaves."""
  seen = []
  grads = GRAD_FN(params)
  method.update(grads, method.init(params), params, grad_fn=lambda p: seen.append(p) or GRAD_FN(p))
  return [np.asarray(x) for x in jax.tree.leaves(seen[0])]


class Callable(eqx.Module):
  """An Equinox model: a mask like it can be called, and must not be."""

  kernel: jax.Array | bool
  bias: jax.Array | bool
  name: str = eqx.field(static=True, default="model")

  def __call__(self, x):
    raise AssertionError("a mask was called")


def state(**leaves):
  return nnx.State({name: nnx.Param(leaf) for name, leaf in leaves.items()})


FLAGS = {"kernel": True, "bias": False}
FITTING = {
  "a dict": (FLAGS, OF_A_DICT),
  "a function": (lambda params: FLAGS, OF_A_DICT),
  "a prefix": (
    {"model": FLAGS},
    {"model": {"kernel": [OF_A_DICT["kernel"]], "bias": OF_A_DICT["bias"]}},
  ),
  "a dict for a FrozenDict": (FLAGS, FrozenDict(OF_A_DICT)),
  "a dict for a state": (FLAGS, state(**OF_A_DICT)),
  "a state for a state": (state(**FLAGS), state(**OF_A_DICT)),
  "a state for arrays": (state(**FLAGS), _pure_nnx.as_pure(state(**OF_A_DICT))),
  "an Equinox module": (Callable(**FLAGS), Callable(**OF_A_DICT)),
}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize(
  ("method", "argument"),
  [(flatopt.sam, "mask"), (flatopt.asam, "mask"), (flatopt.asam, "scale_mask")],
)
def test_every_form_means_the_same(name, method, argument):
  mask, params = FITTING[name]
  expected = perturbed_at(method(0.1, **{argument: FLAGS}), OF_A_DICT)
  found = perturbed_at(method(0.1, **{argument: mask}), params)
  by_shape = lambda leaves: {x.shape: x for x in leaves}
  jax.tree.map(np.testing.assert_array_equal, by_shape(found), by_shape(expected))


@pytest.mark.parametrize("name", FITTING)
def test_trainable(name):
  mask, params = FITTING[name]
  optimizer = flatopt.trainable(optax.sgd(1.0), mask)
  updates, _ = optimizer.update(GRAD_FN(params), optimizer.init(params), params)
  moved = {x.shape: bool(jnp.any(x != 0)) for x in jax.tree.leaves(updates)}
  assert moved == {(2, 2): True, (2,): False}


def test_a_mask_that_is_false_everywhere_leaves_the_base():
  params = OF_A_DICT
  for method in (flatopt.sam(0.1, mask=False), flatopt.asam(0.1, mask=False)):
    for seen, w in zip(perturbed_at(method, params), jax.tree.leaves(params), strict=True):
      np.testing.assert_array_equal(seen, w)
  adaptive, plain = flatopt.asam(0.1, scale_mask=False), flatopt.sam(0.1)
  for a, b in zip(perturbed_at(adaptive, params), perturbed_at(plain, params), strict=True):
    np.testing.assert_array_equal(a, b)
