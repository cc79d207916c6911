"""These programs compile far longer than they run: XLA is asked for less optimisation."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
