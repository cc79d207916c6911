"""Real libraries whose training loops are their own. ``make test-libraries`` installs them."""

import os
import warnings

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest


def pytest_ignore_collect(config):
  """The other suites run without these libraries."""
  return None if config.option.markexpr == "libraries" else True


@pytest.fixture(autouse=True)
def as_users_run_them(strict_promotion, x64):
  """Double precision, in which equality shows every step, and the usual promotion."""
  with (
    jax.numpy_dtype_promotion("standard"),
    warnings.catch_warnings(action="ignore", category=DeprecationWarning),  # of the libraries
  ):
    yield


@pytest.fixture(params=[1, 10])
def num_steps(request):
  return request.param
