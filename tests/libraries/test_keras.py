"""Keras on JAX: ``sharp_loss`` in the method that computes the loss; its files as they are."""

import jax.numpy as jnp
import keras
import pytest

from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def weights(model):
  return [variable.value for variable in model.trainable_variables]


def test_steps(num_steps):
  keras.utils.set_random_seed(0)
  found = page.run("Keras", num_steps=num_steps)
  keras.utils.set_random_seed(0)
  start = weights(page.run("Keras", num_steps=0)["model"])

  def loss_fn(params, step):
    hidden = jnp.tanh(found["x"] @ params[0] + params[1])
    return jnp.mean(((hidden @ params[2] + params[3])[:, 0] - found["y"]) ** 2)

  by_hand.check(weights(found["model"]), loss_fn, start, num_steps, sync_period=num_steps + 1)
  assert abs(found["history"].history["loss"][0] - loss_fn(start, 0)) < 1e-5  # the clean loss


def test_a_saved_model_goes_on(tmp_path):
  straight = page.run("Keras", num_steps=5)
  x, y, model = straight["x"], straight["y"], straight["model"]
  model.save(tmp_path / "model.keras")
  custom = {"SharpModel": straight["SharpModel"]}
  loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=custom)
  for each in (model, loaded):
    each.fit(x, y, batch_size=len(x), epochs=5, verbose=0)
  for a, b in zip(weights(model), weights(loaded), strict=True):
    assert jnp.allclose(a, b, rtol=0, atol=1e-6)
