"""BatchNorm's statistics at other params: the mean over batches, whatever the momentum."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import flatopt
import flatopt.linen
import flatopt.nnx

RNG = np.random.default_rng(0)
# Means that are not zero, batches of two sizes.
BATCHES = [jnp.asarray(RNG.normal(3, 2, (n, 3)), jnp.float32) for n in (8, 8, 8, 5)]


@pytest.fixture(autouse=True)
def standard_promotion():
  with jax.numpy_dtype_promotion("standard"):  # flax itself promotes
    yield


class Model(linen.Module):
  """The second layer's statistics depend on the first, but not on its running averages."""

  momentum: float = 0.99

  @linen.compact
  def __call__(self, x, train):
    x = linen.BatchNorm(not train, momentum=self.momentum)(x)
    x = linen.relu(linen.Dense(4)(x))
    return linen.BatchNorm(not train, momentum=0.9)(x)


def linen_model(momentum, train=True):
  model = Model(momentum)
  variables = model.init(jax.random.key(0), BATCHES[0], True)

  def update_fn(params, batch_stats, batch):
    variables = {"params": params, "batch_stats": batch_stats}
    _, changed = model.apply(variables, batch, train, mutable=["batch_stats"])
    return changed["batch_stats"]

  return variables["params"], variables["batch_stats"], update_fn


def by_hand(kernel, bias, scale, shift):
  """Means over the batches of means and variances, before the first layer and the second."""
  rows = []
  for batch in BATCHES:
    x = np.asarray(batch, np.float64)
    normal = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * scale + shift
    hidden = np.maximum(normal @ kernel + bias, 0)
    rows.append([x.mean(0), x.var(0), hidden.mean(0), hidden.var(0)])
  return [np.mean(column, axis=0) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_linen(momentum):
  params, batch_stats, update_fn = linen_model(momentum)
  params = jax.tree.map(lambda x: x + 0.1, params)  # others than those of the statistics
  found = flatopt.linen.batch_statistics(update_fn, params, batch_stats, iter(BATCHES))
  dense, norm = params["Dense_0"], params["BatchNorm_0"]
  mean, var, hidden_mean, hidden_var = by_hand(
    dense["kernel"], dense["bias"], norm["scale"], norm["bias"]
  )
  expected = {
    "BatchNorm_0": {"mean": mean, "var": var},
    "BatchNorm_1": {"mean": hidden_mean, "var": hidden_var},
  }
  chex.assert_trees_all_close(found, expected, rtol=2e-5)
  chex.assert_trees_all_equal_dtypes(found, batch_stats)


def test_other_leaves_and_narrow_ones():
  """An integer stays, and bfloat16 statistics are estimated in float32."""
  batch_stats = {"count": jnp.array(3), "mean": jnp.array(5.0, jnp.bfloat16)}

  def update_fn(params, stats, batch):
    return {"count": stats["count"] + 1, "mean": 0.99 * stats["mean"] + 0.01 * batch}

  found = flatopt.linen.batch_statistics(update_fn, None, batch_stats, [2.0, 4.0])
  assert found["count"] == 3
  assert found["mean"].dtype == jnp.bfloat16
  assert found["mean"] == 3


def test_evaluation_mode_says_so():
  params, batch_stats, update_fn = linen_model(0.9, train=False)
  message = r"update_fn leaves batch_stats\['BatchNorm_0'\]\['mean'\] as it is.*training mode"
  with pytest.raises(ValueError, match=message):
    flatopt.linen.batch_statistics(update_fn, params, batch_stats, BATCHES)


def test_no_batches():
  with pytest.raises(ValueError, match="batch_statistics: batches is empty"):
    flatopt.linen.batch_statistics(lambda params, stats, batch: stats, {}, {}, [])


class NnxModel(nnx.Module):
  def __init__(self, rngs):
    self.first = nnx.BatchNorm(3, rngs=rngs)
    self.dense = nnx.Linear(3, 4, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.second = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)

  def __call__(self, x):
    return self.dropout(self.second(nnx.relu(self.dense(self.first(x)))))


def test_nnx():
  model = NnxModel(nnx.Rngs(0))
  model.train()
  flatopt.nnx.batch_statistics(lambda model, x: model(x), model, BATCHES)
  arrays = model.dense.kernel, model.dense.bias, model.first.scale, model.first.bias
  expected = by_hand(*(np.asarray(x[...], np.float64) for x in arrays))
  found = [model.first.mean, model.first.var, model.second.mean, model.second.var]
  for statistic, row in zip(found, expected, strict=True):
    np.testing.assert_allclose(statistic[...], row, rtol=2e-5)
  assert model.dropout.rngs.count[...] == 0


def test_one_program_for_all_calls():
  """Also in NNX, whose model is split anew on every call."""
  params, batch_stats, update_fn = linen_model(0.9)
  model, traces = NnxModel(nnx.Rngs(0)), []

  def forward(model, x):
    traces.append(x.shape)
    return model(x)

  def counted_update_fn(*args):
    traces.append("linen")
    return update_fn(*args)

  for _ in range(2):
    flatopt.nnx.batch_statistics(forward, model, BATCHES)
    flatopt.linen.batch_statistics(counted_update_fn, params, batch_stats, BATCHES[:3])
  assert traces == [(8, 3), (5, 3), "linen"]


def test_nnx_in_evaluation_mode_says_so():
  model = NnxModel(nnx.Rngs(0))
  model.eval()
  with pytest.raises(ValueError, match=r"as it is.*NNX: call model.train\(\) first"):
    flatopt.nnx.batch_statistics(lambda model, x: model(x), model, BATCHES)
