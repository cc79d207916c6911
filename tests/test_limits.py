"""Where a hyper-parameter takes a method away, what is left is the base optimizer or SAM."""

import functools

import numpy as np
import optax
import pytest

import flatopt
from tests.oracle.trajectory import START, assert_close, follow

NUM_STEPS = 7
FISHER = flatopt.curvature.empirical_fisher()


def base():
  return optax.sgd(0.1, momentum=0.9)


def before(method):
  return optax.chain(method, base())


def after(method):
  return optax.chain(base(), method)


def sam():
  return before(flatopt.sam(0.3))


def ae_sam(threshold):
  return flatopt.ae_sam(flatopt.sam(0.3), num_steps=NUM_STEPS, low=threshold, high=threshold)


def ire(kappa, **settings):
  return flatopt.ire(kappa, curvature=FISHER, update_interval=2, **settings)


LIMITS = {
  "sam_rho_0": (lambda: before(flatopt.sam(0.0)), base),
  "sam_ascent_identity": (lambda: before(flatopt.sam(0.3, ascent=optax.scale(2.0))), sam),
  "asam_rho_0": (lambda: before(flatopt.asam(0.0)), base),
  "rst_probability_0": (lambda: before(flatopt.rst(flatopt.sam(0.3), 0.0)), base),
  "rst_probability_1": (lambda: before(flatopt.rst(flatopt.sam(0.3), 1.0)), sam),
  "ae_sam_low_threshold": (lambda: before(ae_sam(-1e9)), sam),
  "ae_sam_high_threshold": (lambda: before(ae_sam(1e9)), base),
  "weight_average": (lambda: flatopt.weight_average(base(), start_step=2), base),
  "rst_mixing_0": (lambda: before(flatopt.rst(flatopt.sam(0.3), 0.9, mixing=0.0)), base),
  "g_rst_probability_0": (lambda: before(flatopt.g_rst(flatopt.sam(0.3), 0.0)), base),
  "g_rst_probability_1": (lambda: before(flatopt.g_rst(flatopt.sam(0.3), 1.0)), sam),
  "g_rst_degree_0": (lambda: before(flatopt.g_rst(flatopt.sam(0.3), 0.9, degree=0.0)), base),
  "g_rst_degree_is_probability": (
    lambda: before(flatopt.g_rst(flatopt.sam(0.3), 0.4, degree=0.4)),
    lambda: before(flatopt.rst(flatopt.sam(0.3), 0.4)),
  ),
  "ire_kappa_0": (lambda: after(ire(0.0, flat_fraction=0.5)), base),
  "ire_none_flat": (lambda: after(ire(2.0, flat_fraction=0.0)), base),
  "ire_all_flat": (
    lambda: after(ire(2.0, flat_fraction=1.0)),
    lambda: after(optax.scale(3.0)),
  ),
  "ire_later": (
    lambda: after(flatopt.ire(curvature=FISHER, start_step=NUM_STEPS)),
    base,
  ),
  "ire_rho_kappa_0": (lambda: before(ire(0.0, flat_fraction=0.5, rho=0.3)), sam),
  "ire_rho_none_flat": (lambda: before(ire(2.0, flat_fraction=0.0, rho=0.3)), sam),
  "ire_rho_rho_0": (lambda: before(ire(2.0, flat_fraction=0.5, rho=0.0)), base),
  "ire_rho_all_flat": (
    lambda: before(ire(2.0, flat_fraction=1.0, rho=0.3)),
    lambda: before(flatopt.rst(flatopt.sam(0.3), 1.0, mixing=3.0)),  # g + 3 d
  ),
  "ire_rho_later": (
    lambda: before(flatopt.ire(rho=0.3, curvature=FISHER, start_step=NUM_STEPS)),
    sam,
  ),
  "lookahead_slow_step_size_1": (
    lambda: flatopt.lookahead(base(), sync_period=2, slow_step_size=1.0),
    base,
  ),
  "lookahead_never": (lambda: flatopt.lookahead(base(), sync_period=NUM_STEPS + 1), base),
  "sala_rho_0_slow_step_size_1": (
    lambda: flatopt.sala(base(), sync_period=2, slow_step_size=1.0, rho=0.0),
    base,
  ),
  "sala_never": (lambda: flatopt.sala(base(), sync_period=NUM_STEPS + 2), base),
  "lookbehind_one_step": (
    lambda: flatopt.lookbehind(base(), ascent_steps=1, rho=0.3, interpolation=1.0),
    sam,
  ),
  "lookbehind_one_adaptive_step": (
    lambda: flatopt.lookbehind(base(), ascent_steps=1, rho=0.3, interpolation="adaptive"),
    sam,
  ),
  "lookbehind_one_asam_step": (
    lambda: flatopt.lookbehind(base(), ascent_steps=1, rho=0.3, eta=0.1, interpolation=1.0),
    lambda: before(flatopt.asam(0.3, eta=0.1)),
  ),
  "lookbehind_interpolation_0": (
    lambda: flatopt.lookbehind(base(), rho=0.3, interpolation=0.0),
    lambda: optax.sgd(0.0),
  ),
}


@functools.cache
def reference(make):
  return follow(make(), NUM_STEPS)[0]


@pytest.mark.parametrize(("make", "make_limit"), LIMITS.values(), ids=LIMITS)
def test_limit(x64, make, make_limit):
  assert_close(follow(make(), NUM_STEPS)[0], reference(make_limit))


def test_the_limits_differ(x64):
  """Else the tests above would show nothing."""
  assert np.abs(reference(base)[0] - START).max() > 0.01
  assert np.abs(reference(base) - reference(sam)).max() > 0.01
