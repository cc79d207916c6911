"""Eight virtual CPU devices, little optimisation by XLA, and contexts that several tests want."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile far longer than they run, and so do the processes that they start: XLA optimises
# little, and LLVM gets its older, smaller programs.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["XLA_FLAGS"] = " ".join(
  [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
  ]
)

import jax
import jax.numpy as jnp
import pytest

from tests.versions import enable_x64, pcast

_COMPILATIONS = []
# For the whole session, because before JAX 0.8.1 a listener cannot be removed.
jax.monitoring.register_event_duration_secs_listener(
  lambda event, *_, **__: _COMPILATIONS.append(event) if "backend_compile" in event else None
)


@pytest.fixture
def compilations():
  """What XLA compiles from here on, a list that grows."""
  _COMPILATIONS.clear()
  return _COMPILATIONS


@pytest.fixture
def full_optimization():
  """As for users, where costs are read off the compiled program."""
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def x64():
  """Float64 for one test."""
  with enable_x64(True):
    yield


@pytest.fixture(params=[pytest.param("float32", marks=pytest.mark.slow), "float64"])
def dtype(request):
  """Both precisions that equality is promised in, one after the other."""
  with enable_x64(request.param == "float64"):
    yield jnp.dtype(request.param)


@pytest.fixture
def names_of_today(monkeypatch):
  """For pages and examples, which spell JAX and flax as their readers find them today."""
  from flax import nnx

  from flatopt._pure_nnx import as_pure

  monkeypatch.setattr(jax.lax, "pcast", pcast, raising=False)
  monkeypatch.setattr(nnx, "as_pure", as_pure, raising=False)


@pytest.fixture(autouse=True)
def strict_promotion():
  """No silent change of a dtype, anywhere."""
  with jax.numpy_dtype_promotion("strict"):
    yield
