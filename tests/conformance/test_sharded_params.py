"""Params sharded inside ``shard_map``: norms, counts and thresholds are the whole tree's.

A model that is tensor-parallel over one axis, its batch split over the other, trains as on one
device with the whole params.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import flatopt
from flatopt import _tree
from flatopt.curvature import empirical_fisher, hutchinson
from tests import methods
from tests.versions import pcast

NUM_STEPS = 7
SPECS = {
  "up": PartitionSpec(None, "model"),
  "bias": PartitionSpec("model"),
  "down": PartitionSpec("model"),
  "scale": PartitionSpec(),
}


def mesh(**sizes):
  axis_types = (AxisType.Auto,) * len(sizes)
  devices = jax.devices()[: np.prod(list(sizes.values()))]
  return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types, devices=devices)


def make_params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
  return {"up": draw(3, 8), "bias": draw(8), "down": draw(8, 2), "scale": draw(2)}


def make_batches():
  rng = np.random.default_rng(1)
  return [
    (jnp.asarray(rng.normal(size=(8, 3))), jnp.asarray(rng.normal(size=(8, 2))))
    for _ in range(NUM_STEPS)
  ]


def loss_fn(params, batch, add_up=lambda x: x):
  """``add_up`` sums the parts of the hidden layer that lie on different devices."""
  x, y = batch
  hidden = jnp.tanh(x @ params["up"] + params["bias"])
  return jnp.mean((add_up(hidden @ params["down"]) * params["scale"] - y) ** 2)


def train_whole(optimizer, batches, num_parts):
  """On one device; gradients are taken part by part where the data axis has parts."""

  def step(params, state, batch):
    grad_fn = lambda p: jax.grad(loss_fn)(p, batch)
    updates, state = optimizer.update(grad_fn(params), state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), state

  params = make_params()
  state = optimizer.init(params)
  if num_parts > 1:
    params, state = jax.tree.map(lambda x: jnp.stack([x] * num_parts), (params, state))
    step = jax.vmap(step, axis_name="data")
  step = jax.jit(step)
  for batch in batches:
    if num_parts > 1:
      batch = jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), batch)
    params, state = step(params, state, batch)
  return jax.tree.map(lambda x: x[0], params) if num_parts > 1 else params


def train_sharded(optimizer, batches, over, data_axis=None):
  def step(params, state, batch):
    local = pcast(params, "data", to="varying") if data_axis else params
    loss = lambda p: loss_fn(p, batch, lambda x: jax.lax.psum(x, "model"))
    updates, state = optimizer.update(jax.grad(loss)(local), state, params, grad_fn=jax.grad(loss))
    return optax.apply_updates(params, updates), state

  params = make_params()
  state = optimizer.init(params)
  of_shape = {leaf.shape: SPECS[name] for name, leaf in params.items()}
  state_specs = jax.tree.map(lambda x: of_shape.get(x.shape, PartitionSpec()), state)
  batch_spec = PartitionSpec("data") if data_axis else PartitionSpec()
  sharded = jax.jit(
    jax.shard_map(
      step,
      mesh=over,
      in_specs=(SPECS, state_specs, batch_spec),
      out_specs=(SPECS, state_specs),
    )
  )
  for batch in batches:
    params, state = jax.block_until_ready(sharded(params, state, batch))
  return params


def data(axis_name=None, shard_axes=None):
  """The device arguments of a method that has no norm of its own."""
  return {"axis_name": axis_name}


SGD = optax.sgd(0.05, momentum=0.9)
METHODS = {
  "sam": lambda **d: optax.chain(flatopt.sam(0.3, **d), SGD),
  "sam_on": lambda **d: optax.chain(
    flatopt.sam(0.3, mask={"up": True, "bias": False, "down": False, "scale": True}, **d), SGD
  ),
  "sam_ascent": lambda **d: optax.chain(flatopt.sam(0.3, ascent=optax.scale_by_rms(), **d), SGD),
  "asam": lambda **d: optax.chain(flatopt.asam(0.5, **d), SGD),
  "rst": lambda **d: optax.chain(flatopt.rst(flatopt.sam(0.3, **d), 0.5, **data(**d)), SGD),
  "g_rst": lambda **d: optax.chain(flatopt.g_rst(flatopt.sam(0.3, **d), 0.5, **data(**d)), SGD),
  "ae_sam": lambda **d: optax.chain(flatopt.ae_sam(flatopt.sam(0.3, **d), num_steps=7, **d), SGD),
  "gsam": lambda **d: optax.chain(flatopt.gsam(0.3, alpha=0.4, **d), SGD),
  "looksam": lambda **d: optax.chain(flatopt.looksam(0.3, update_interval=2, **d), SGD),
  "friendly_sam": lambda **d: optax.chain(flatopt.friendly_sam(0.3, **d), SGD),
  "ire_rho": lambda **d: optax.chain(
    flatopt.ire(rho=0.3, flat_fraction=0.4, curvature=empirical_fisher(), **d), SGD
  ),
  "ire": lambda **d: optax.chain(
    flatopt.sam(0.1, **d),
    SGD,
    flatopt.ire(flat_fraction=0.4, curvature=empirical_fisher(), update_interval=2, decay=0.5, **d),
  ),
  "lookahead": lambda **d: flatopt.lookahead(
    optax.chain(flatopt.sam(0.3, **d), SGD), sync_period=2
  ),
  "sala": lambda **d: flatopt.sala(SGD, sync_period=2, rho=0.3, **d),
  "lookbehind": lambda **d: flatopt.lookbehind(
    optax.sgd(0.01), ascent_steps=3, rho=0.2, interpolation="adaptive", **d
  ),
  "momentum_sam": lambda axis_name=None, **d: flatopt.momentum_sam(
    optax.chain(flatopt.sam(0.1, axis_name=axis_name, **d), SGD), **d
  ),
  "weight_average": lambda **d: flatopt.weight_average(
    optax.chain(flatopt.sam(0.3, **d), SGD), start_step=2
  ),
}


def each_method(*fast):
  """All methods; those that are not in the fast suite are dear to compile and much like them."""
  return pytest.mark.parametrize(
    "name", [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in METHODS]
  )


@each_method("sam_on")
def test_tensor_parallel_training_is_that_of_one_device(x64, name):
  batches = make_batches()
  expected = train_whole(METHODS[name](), batches, num_parts=1)
  found = train_sharded(METHODS[name](shard_axes="model"), batches, mesh(model=4))
  chex.assert_trees_all_close(jax.device_get(found), expected, rtol=1e-10, atol=1e-12)


@each_method("sam", "ire", "sala")
def test_data_and_tensor_parallel_training_is_m_sharpness(x64, name):
  """Over the data axis every device has its own gradient; over the model axis, the whole norm."""
  batches = make_batches()
  expected = train_whole(METHODS[name](axis_name="data"), batches, num_parts=2)
  optimizer = METHODS[name](axis_name="data", shard_axes=("model",))
  found = train_sharded(optimizer, batches, mesh(data=2, model=4), data_axis="data")
  chex.assert_trees_all_close(jax.device_get(found), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_shards_are_said(name):
  """Shards and models of their own look alike, so that neither is the default."""
  with pytest.raises(ValueError, match=r"vary over .* 'model'.*shard_axes=\('model',\).*=\(\)"):
    train_sharded(METHODS[name](), make_batches(), mesh(model=4))


def on_two_devices(fn, *args, check_vma=True):
  spec = PartitionSpec("x")
  mapped = jax.shard_map(fn, mesh=mesh(x=2), in_specs=spec, out_specs=spec, check_vma=check_vma)
  return jax.jit(mapped)(*args)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(
  ("shard_axes", "expected"),
  [
    # g = 4 w^3 = [[4, 32], [500, 864]], eps = g / its norm, 4 (w + eps)^3.
    ("x", [[4.048, 33.563], [665.724, 1294.179]]),
    ((), [[5.681, 107.168], [665.819, 1294.434]]),  # one norm a row
  ],
)
def test_sam_by_hand(shard_axes, expected, check_vma):
  grad_fn = lambda w: 4 * w**3
  optimizer = flatopt.sam(1.0, shard_axes=shard_axes)
  update = lambda w: optimizer.update(grad_fn(w), optimizer.init(w), w, grad_fn=grad_fn)[0]
  found = on_two_devices(update, jnp.array([[1.0, 2.0], [5.0, 6.0]]), check_vma=check_vma)
  np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_norm_over_shards_overflows_only_where_it_has_to():
  shards = np.array([[3e30, 3e-30, 0, np.inf, np.nan], [4e30, 4e-30, 0, 1, 1]], np.float32)
  norm = lambda x: _tree.norm([x], (("x",),))
  found = on_two_devices(lambda x: jax.vmap(norm)(x[0])[None], shards)
  np.testing.assert_allclose(found, [[5e30, 5e-30, 0, np.inf, np.nan]] * 2, rtol=1e-6)


@pytest.mark.parametrize("last", [1.0, np.nan])
@pytest.mark.parametrize(
  "name", sorted({*methods.with_argument("shard_axes")} - {*methods.with_argument("inner")})
)
def test_two_halves_are_the_whole(name, last):
  """A gradient that is not finite in one half is none in the other."""
  w, scale = jnp.array([1.0, -2.0, 3.0, 0.5]), jnp.array([1.0, 1.0, 1.0, last])

  def two_updates(w, scale, **device):
    method = methods.METHODS[name](**device)
    fns = {"grad_fn": lambda w: w**3, "sampled_grad_fn": lambda w, key: w}
    state = method.init(w)
    for _ in range(2):
      output, state = method.update(scale * w, state, w, **fns)
    return output, state

  on_half = jax.vmap(functools.partial(two_updates, shard_axes="x"), axis_name="x")
  halves = on_half(w.reshape(2, 2), scale.reshape(2, 2))
  for half, whole in zip(*map(jax.tree.leaves, (halves, two_updates(w, scale))), strict=True):
    expected = whole.reshape(2, 2) if whole.shape else [whole, whole]
    np.testing.assert_allclose(half, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ("device", "square"), [({"shard_axes": "x"}, 3**2 + 4**2), ({"axis_name": "x"}, 3.5**2)]
)
def test_ae_sam_measures_all_shards_or_the_mean(device, square):
  method = flatopt.ae_sam(optax.identity(), num_steps=2, decay=0.5, **device)
  mean = lambda w: method.update(w, method.init(w), w)[1].mean[None]
  assert on_two_devices(mean, jnp.array([3.0, 4.0])).tolist() == [square / 2] * 2


def test_equal_params_with_a_closure_that_averages():
  """They look like shards; ``()`` keeps the radius, which as shards would be rho / sqrt(2)."""
  grad_fn = lambda w: jax.lax.pmean(3 * w**2, "x")

  def update(w, shard_axes):
    optimizer = flatopt.sam(1.0, shard_axes=shard_axes)
    return optimizer.update(grad_fn(w), optimizer.init(w), w, grad_fn=grad_fn)[0]

  replicated = jnp.array([3.0, 3.0])
  with pytest.raises(ValueError, match=r"sam: params vary over the mesh axis 'x'"):
    on_two_devices(lambda w: update(w, None), replicated)
  found = on_two_devices(lambda w: update(w, ()), replicated)
  np.testing.assert_allclose(found, [48.0, 48.0])  # 3 (3 + 1)^2


def test_without_checks_of_varying_axes_every_leaf_counts_as_sharded():
  """A replicated leaf is then counted once a device; with the checks, once."""
  grad_fn = lambda w: w
  optimizer = flatopt.sam(1.0, shard_axes="x")

  def update(w):
    params = {"sharded": w, "replicated": jnp.array([3.0])}
    return optimizer.update(params, optimizer.init(params), params, grad_fn=grad_fn)[0]["sharded"]

  for check_vma, norm in ((True, np.sqrt(2 + 9)), (False, np.sqrt(2 + 2 * 9))):
    found = on_two_devices(update, jnp.ones(2), check_vma=check_vma)
    np.testing.assert_allclose(found, 1 + 1 / norm, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 16])
def test_kth_smallest_is_of_all_shards(k):
  x = np.random.default_rng(0).normal(size=16).astype(np.float32)
  over = mesh(x=8)
  with pytest.raises(ValueError, match=r"kth_smallest: params vary over the mesh axis 'x'"):
    on_two_devices(lambda x: flatopt.kth_smallest([x], k), x)
  of_two_halves = on_two_devices(lambda x: flatopt.kth_smallest([x], 3, shard_axes=())[None], x)
  np.testing.assert_array_equal(of_two_halves, np.sort(x.reshape(2, 8))[:, 2])
  found = jax.jit(
    jax.shard_map(
      lambda x: flatopt.kth_smallest([x], k, shard_axes="x"),
      mesh=over,
      in_specs=PartitionSpec("x"),
      out_specs=PartitionSpec(),
    )
  )(x)
  assert found == np.sort(x)[k - 1]


def test_hutchinson_probes_of_two_shards_are_independent():
  """H = [[1, 5], [5, 2]]: with equal probes on both shards the estimate would be [6, 7]."""
  hessian = np.array([[1.0, 5.0], [5.0, 2.0]], np.float32)

  def estimates(w):
    row = jnp.asarray(hessian)[jax.lax.axis_index("x")]
    grad_fn = lambda w: jnp.dot(row, jax.lax.all_gather(w, "x", tiled=True))[None]
    estimator = hutchinson(256, shard_axes="x")
    return estimator.update(w, estimator.init(w), w, grad_fn=grad_fn)[0]

  found = on_two_devices(estimates, jnp.ones(2))
  np.testing.assert_allclose(found, [1, 2], atol=4 * 5 / 256**0.5)
