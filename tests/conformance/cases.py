"""The registry: every contract test runs on every case. A new method adds one line."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
import pytest

import flatopt
from flatopt.curvature import empirical_fisher, gauss_newton_bartlett, hutchinson
from flatopt.schedules import every, from_step


class Case(NamedTuple):
  """A method with a base optimizer, and what the contract needs to know of it.

  ``make`` takes another base optimizer, and the device arguments (``axis_name``, ``shard_axes``);
  ``products`` is the number of Hessian-vector products in n steps, each one closure call
  that costs two gradients.
  """

  name: str
  make: Callable[..., optax.GradientTransformationExtraArgs]
  products: Callable[[int], int] = lambda n: 0


BASE = optax.sgd(0.1, momentum=0.9)
RMSPROP = optax.rmsprop(0.01)


def _before(method):
  return lambda base=BASE, **device: optax.chain(method(**device), base)


def _after(method, **settings):
  return lambda base=BASE, **device: optax.chain(
    _mean(**device), base, method(**settings, **device)
  )


def _mean(axis_name=None, **_):
  """What the base optimizer needs on several devices: averaged gradients."""
  average = lambda updates, _: jax.lax.pmean(updates, axis_name) if axis_name else updates
  return optax.stateless(average)


def _data(axis_name=None, **_):
  """The device arguments of a method that has no norm of its own."""
  return {"axis_name": axis_name}


def _around(method, **settings):
  return lambda base=BASE, **device: method(base, **settings, **device)


def _biases(params):
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)


CASES = [
  Case("sam", _before(lambda **d: flatopt.sam(0.1, **d))),
  Case("sam_ascent", _before(lambda **d: flatopt.sam(0.1, ascent=optax.scale_by_rms(), **d))),
  Case("asam", _before(lambda **d: flatopt.asam(0.5, **d))),
  Case("rst", _before(lambda **d: flatopt.rst(flatopt.sam(0.1, **d), 0.5, **_data(**d)))),
  Case(
    "rst_every", _before(lambda **d: flatopt.rst(flatopt.sam(0.1, **d), every(3), **_data(**d)))
  ),
  Case(
    "rst_late", _before(lambda **d: flatopt.rst(flatopt.sam(0.1, **d), from_step(2), **_data(**d)))
  ),
  Case("g_rst", _before(lambda **d: flatopt.g_rst(flatopt.sam(0.1, **d), 0.5, **_data(**d)))),
  Case(
    "ae_sam",
    _before(lambda **d: flatopt.ae_sam(flatopt.sam(0.1, **d), num_steps=12, **d)),
  ),
  Case(
    "ire_rho",
    _before(lambda **d: flatopt.ire(rho=0.1, curvature=gauss_newton_bartlett(), **d)),
  ),
  Case(
    "ire",
    _after(flatopt.ire, curvature=gauss_newton_bartlett(), update_interval=3),
  ),
  Case(
    "ire_hutchinson",
    _after(flatopt.ire, curvature=hutchinson(2), update_interval=4, start_step=2, decay=0.5),
    products=lambda n: 2 * len(range(2, n, 4)),
  ),
  Case(
    "lookahead",
    lambda base=BASE, **d: flatopt.lookahead(
      optax.chain(flatopt.sam(0.1, **d), base), sync_period=3, slow_momentum=0.5
    ),
  ),
  Case(
    "finish",
    lambda base=BASE, **d: flatopt.finish(
      flatopt.lookahead(optax.chain(flatopt.sam(0.1, **d), base), sync_period=2), 3
    ),
  ),
  Case("sala", _around(flatopt.sala, sync_period=3, rho=0.3)),
  Case(
    "lookbehind", _around(flatopt.lookbehind, ascent_steps=2, rho=0.1, interpolation="adaptive")
  ),
  Case("gsam", _before(lambda **d: flatopt.gsam(0.1, alpha=0.3, **d))),
  Case("looksam", _before(lambda **d: flatopt.looksam(0.1, update_interval=3, **d))),
  Case("friendly_sam", _before(lambda **d: flatopt.friendly_sam(0.1, **d))),
  Case(
    "momentum_sam",
    lambda base=BASE, axis_name=None, **d: flatopt.momentum_sam(
      optax.chain(flatopt.sam(0.1, axis_name=axis_name, **d), base), rho=0.1, **d
    ),
  ),
  Case(
    "weight_average",
    lambda base=BASE, **d: flatopt.weight_average(
      optax.chain(flatopt.sam(0.1, **d), base), start_step=2, update_interval=2
    ),
  ),
  Case("sam_on", _before(lambda **d: flatopt.sam(0.1, mask=_biases, **d))),
  Case(
    "sala_of_chain",
    lambda base=RMSPROP, **d: flatopt.sala(
      optax.chain(base, flatopt.ire(curvature=empirical_fisher(), **d)),
      rho=0.3,
      **d,
    ),
  ),
]

ONE_OF_EACH_PLACE = [c for c in CASES if c.name in ("sam", "ire", "sala", "lookbehind")]
OTHERS = [c for c in CASES if c not in ONE_OF_EACH_PLACE]

# For programs that are dear to compile: in the fast suite, one method of each place.
each_case_in_time = pytest.mark.parametrize(
  "case",
  [
    *(pytest.param(c, id=c.name) for c in ONE_OF_EACH_PLACE),
    *(pytest.param(c, id=c.name, marks=pytest.mark.slow) for c in OTHERS),
  ],
)

# The same in both precisions. ``dtype`` is the fixture of tests/conftest.py.
each_case_and_dtype = pytest.mark.parametrize(
  ("dtype", "case"),
  [
    *(pytest.param("float64", c, id=f"float64-{c.name}") for c in ONE_OF_EACH_PLACE),
    *(pytest.param("float64", c, id=f"float64-{c.name}", marks=pytest.mark.slow) for c in OTHERS),
    *(
      pytest.param("float32", c, id=f"float32-{c.name}", marks=pytest.mark.slow)
      for c in ONE_OF_EACH_PLACE
    ),
  ],
  indirect=["dtype"],
)
