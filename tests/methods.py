"""The one list of methods, by their places. A new method is a line here."""

import inspect
from functools import partial

import optax

import flatopt
from flatopt import curvature

SGD = optax.sgd(0.1)
BEFORE = {
  "sam": flatopt.sam,
  "asam": flatopt.asam,
  "rst": partial(flatopt.rst, flatopt.sam()),
  "g_rst": partial(flatopt.g_rst, flatopt.sam()),
  "ae_sam": partial(flatopt.ae_sam, flatopt.sam(), num_steps=3),
  "ire_rho": partial(flatopt.ire, rho=0.05, curvature=curvature.gauss_newton_bartlett()),
  "gsam": flatopt.gsam,
  "looksam": partial(flatopt.looksam, update_interval=2),
  "friendly_sam": flatopt.friendly_sam,
}
AFTER = {
  "ire": partial(flatopt.ire, curvature=curvature.gauss_newton_bartlett(), update_interval=2),
}
AROUND = {
  "lookahead": partial(flatopt.lookahead, sync_period=2),
  "sala": partial(flatopt.sala, sync_period=2),
  "lookbehind": partial(flatopt.lookbehind, ascent_steps=2),
  "momentum_sam": flatopt.momentum_sam,
  "weight_average": flatopt.weight_average,
  "finish": partial(flatopt.finish, num_steps=3),
}
ESTIMATORS = {
  "hutchinson": curvature.hutchinson,
  "gauss_newton_bartlett": curvature.gauss_newton_bartlett,
  "empirical_fisher": curvature.empirical_fisher,
}
OPTIMIZERS = BEFORE | AFTER | {name: partial(f, SGD) for name, f in AROUND.items()}
METHODS = OPTIMIZERS | ESTIMATORS


def public_name(name):
  """The name in error messages, under which ``flatopt`` has the method."""
  return getattr(METHODS[name], "func", METHODS[name]).__name__


def unfilled(name):
  """The factory without the base optimizer or the inner method that the list gives it."""
  factory = METHODS[name]
  return partial(factory.func, **factory.keywords) if isinstance(factory, partial) else factory


def with_argument(*arguments):
  """The names of the methods that have one of the arguments."""
  return [n for n in METHODS if {*arguments} & {*inspect.signature(unfilled(n)).parameters}]
