"""NetKet: a subclass of its driver, against the energy as a dense quotient."""

import flax.serialization
import jax
import jax.numpy as jnp
import pytest

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def fresh(found):
  wave = found["netket"].vqs.FullSumState(
    found["space"], found["netket"].models.RBM(param_dtype=float), seed=0
  )
  driver = found["SharpVMC"](found["hamiltonian"], found["sam_and_base"], variational_state=wave)
  return wave, driver


def test_steps(num_steps):
  found = page.run("NetKet", num_steps=num_steps)
  wave, _ = fresh(found)
  matrix, states = found["hamiltonian"].to_dense(), found["space"].all_states()

  def energy(params, step):
    amplitudes = jnp.exp(wave.model.apply({"params": params}, states))
    return amplitudes @ matrix @ amplitudes / (amplitudes @ amplitudes)

  by_hand.check(found["wave"].parameters, energy, wave.parameters, num_steps)


def test_the_log_has_the_energy_of_the_clean_pass():
  found = page.run("NetKet", num_steps=1)
  wave, _ = fresh(found)
  clean = wave.expect(found["hamiltonian"]).mean
  assert abs(found["driver"].energy.mean - clean) < 1e-10


def test_a_saved_driver_goes_on():
  straight = page.run("NetKet", num_steps=6)["wave"].parameters
  found = page.run("NetKet", num_steps=3)
  wave, driver = fresh(found)
  saved = flax.serialization.to_bytes((found["wave"], found["driver"]))
  wave, driver = flax.serialization.from_bytes((wave, driver), saved)
  driver.run(3, out=(), show_progress=False)
  for a, b in zip(*map(jax.tree.leaves, (straight, driver.state.parameters)), strict=True):
    assert jnp.allclose(a, b, rtol=0, atol=1e-14)
