"""Eight virtual CPU devices, and contexts that several tests want."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import jax.numpy as jnp
import pytest


@pytest.fixture
def x64():
  """Float64 for one test."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(params=[pytest.param("float32", marks=pytest.mark.slow), "float64"])
def dtype(request):
  """Both precisions that equality is promised in, one after the other."""
  with jax.enable_x64(request.param == "float64"):
    yield jnp.dtype(request.param)


@pytest.fixture(autouse=True)
def strict_promotion():
  """No silent change of a dtype, anywhere."""
  with jax.numpy_dtype_promotion("strict"):
    yield
