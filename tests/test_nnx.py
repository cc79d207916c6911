"""The NNX glue: the same dropout mask in both passes, arguments that are NNX objects, slow weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import flatopt
import flatopt._pure_nnx
import flatopt.nnx
from tests.versions import pcast

pytestmark = pytest.mark.usefixtures("standard_promotion")
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)


@pytest.fixture
def standard_promotion():
  with jax.numpy_dtype_promotion("standard"):  # flax itself promotes
    yield


class Model(nnx.Module):
  """Dense, BatchNorm, dropout."""

  def __init__(self):
    self.dense = nnx.Linear(3, 8, rngs=nnx.Rngs(0))
    self.norm = nnx.BatchNorm(8, rngs=nnx.Rngs(0))
    self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))

  def __call__(self, x):
    return self.dropout(self.norm(self.dense(x)))


def own_state_loss(model, x, rngs=None, **kwargs):
  return jnp.mean(model(x) ** 2 * jnp.arange(8.0))


def passed_rngs_loss(model, x, rngs=None, *, scale=1.0, mode="train", head=None):
  """Masks come from ``rngs``; ``head`` is another module, with params of its own."""
  assert mode == "train"
  kept = jax.random.bernoulli(rngs.dropout(), 0.5, (6, 8))
  return scale * jnp.mean(jnp.where(kept, head(model.dense(x)), 0) ** 2)


def arguments():
  model, head = Model(), nnx.Linear(8, 8, rngs=nnx.Rngs(5))
  return model, nnx.Rngs(dropout=2), {"scale": 3.0, "mode": "train", "head": head}


pure = flatopt._pure_nnx.as_pure


def assert_close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), a, b)


def clean_gradient(loss_fn, model, x, rngs, kwargs):
  """What nnx.grad says; keyword-only arguments are bound, because it takes none."""
  bound = lambda model, rngs, head: loss_fn(model, x, rngs, **kwargs | {"head": head})
  return pure(nnx.grad(bound)(model, rngs, kwargs["head"]))


@pytest.fixture(params=["eager", "nnx.jit"])
def compiled(request):
  return nnx.jit if request.param == "nnx.jit" else lambda fn: fn


@pytest.mark.parametrize("loss_fn", [own_state_loss, passed_rngs_loss])
def test_value_and_grad(compiled, loss_fn):
  """Values are nnx's; all state moves once; the closure redraws the mask, elsewhere too."""
  model, rngs, kwargs = arguments()
  twin, twin_rngs, twin_kwargs = arguments()

  @compiled
  def step(model, rngs, head, x):
    step_fn = flatopt.nnx.value_and_grad(loss_fn)
    value, grads, grad_fn = step_fn(model, x, rngs, scale=3.0, mode="train", head=head)
    elsewhere = jax.tree.map(lambda w: 1.5 * w, pure(nnx.state(model, nnx.Param)))
    return value, grads, grad_fn(nnx.state(model, nnx.Param)), grad_fn(elsewhere)

  for _ in range(2):
    value, grads, again, elsewhere = step(model, rngs, kwargs["head"], X)
    before = nnx.clone((twin, twin_rngs, twin_kwargs["head"]))
    np.testing.assert_allclose(
      value, loss_fn(before[0], X, before[1], **kwargs | {"head": before[2]}), rtol=1e-5
    )
    moved = nnx.clone((twin, twin_rngs, twin_kwargs["head"]))
    nnx.update(moved[0], jax.tree.map(lambda w: 1.5 * w, pure(nnx.state(twin, nnx.Param))))
    at_elsewhere = clean_gradient(loss_fn, moved[0], X, moved[1], kwargs | {"head": moved[2]})
    expected = clean_gradient(loss_fn, twin, X, twin_rngs, twin_kwargs)
    assert_close(pure(grads), expected)
    assert_close(pure(again), expected)
    assert_close(pure(elsewhere), at_elsewhere)
    assert jax.tree.structure(grads) == jax.tree.structure(nnx.state(model, nnx.Param))
  state = lambda *nodes: pure(nnx.state(nodes, nnx.Not(nnx.RngKey)))
  assert_close(state(model, rngs, kwargs["head"]), state(twin, twin_rngs, twin_kwargs["head"]))


def test_value_and_grad_with_aux_wrt_and_transform():
  def loss_fn(model, x):
    prediction = model(x)
    return jnp.sum(prediction**2), prediction

  wrt = nnx.All(nnx.Param, nnx.PathContains("dense"))
  unit = lambda grads: jax.tree.map(lambda g: g / optax.tree.norm(grads), grads)
  model, twin = Model(), Model()
  step_fn = flatopt.nnx.value_and_grad(loss_fn, wrt=wrt, has_aux=True, transform=unit)
  (loss, prediction), grads, grad_fn = step_fn(model, X)
  (expected_loss, expected_prediction), expected = nnx.value_and_grad(
    loss_fn, argnums=nnx.DiffState(0, wrt), has_aux=True
  )(twin, X)
  assert float(loss) == float(expected_loss)
  np.testing.assert_array_equal(prediction, expected_prediction)
  assert_close(pure(grads), unit(pure(expected)))
  assert set(grads) == {"dense"}
  flatopt.closures.check(grads, nnx.state(model, wrt), grad_fn)


@pytest.mark.parametrize("split_batch", [False, True])
def test_microbatches_are_a_sequence_of_passes(compiled, split_batch):
  """Of ``nnx.value_and_grad``: the same means, statistics and masks, on two steps."""

  def loss_fn(model, batch):
    x, y = batch
    return jnp.mean((model(x) - y) ** 2), x[0]

  x = jnp.asarray(np.random.default_rng(1).normal(size=(24, 3)), jnp.float32)
  batch = x, x[:, :1]
  if split_batch:
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
  model, twin = Model(), Model()
  wrt = nnx.All(nnx.Param, nnx.PathContains("dense"))
  transform = lambda grads: jax.tree.map(lambda g: 2 * g, grads)

  @compiled
  def step(model, batch):
    step_fn = flatopt.nnx.micro_value_and_grad(
      loss_fn, 3, wrt=wrt, has_aux=True, transform=transform
    )
    (loss, aux), grads, grad_fn = step_fn(model, batch)
    params = nnx.state(model, wrt)
    elsewhere = jax.tree.map(lambda w: 1.5 * w, pure(params))
    return loss, aux, grads, grad_fn(params), grad_fn(elsewhere)

  def sequence(model, batch):
    clean_pass = nnx.value_and_grad(loss_fn, argnums=nnx.DiffState(0, wrt), has_aux=True)
    part = lambda i: jax.tree.map(lambda leaf: leaf[i::3], batch)
    values, grads = zip(*(clean_pass(model, part(i)) for i in range(3)), strict=True)
    losses, aux = zip(*values, strict=True)
    mean = jax.tree.map(lambda *gs: 2 * sum(gs) / 3, *map(pure, grads))
    return sum(losses) / 3, jnp.stack(aux), mean

  for _ in range(2):
    moved = nnx.clone(twin)
    nnx.update(moved, jax.tree.map(lambda w: 1.5 * w, pure(nnx.state(twin, wrt))))
    _, _, at_elsewhere = sequence(moved, batch)
    loss, aux, grads, again, elsewhere = step(model, batch)
    expected = sequence(twin, batch)
    assert_close((loss, aux, pure(grads)), expected)
    assert_close(pure(again), expected[2])
    assert_close(pure(elsewhere), at_elsewhere)
    assert jax.tree.structure(grads) == jax.tree.structure(nnx.state(model, wrt))
    assert_close(*(pure(nnx.state(m, nnx.Not(nnx.RngKey))) for m in (model, twin)))


def test_microbatches_are_in_memory_one_at_a_time():
  seen = []

  def loss_fn(model, x):
    seen.append(x.shape)
    return jnp.mean(model(x))

  model = Model()
  _, _, grad_fn = flatopt.nnx.micro_value_and_grad(loss_fn, 3)(model, X)
  assert set(seen) == {(2, 3)}
  assert len(seen) < 3  # in a scan
  grad_fn(nnx.state(model, nnx.Param))
  assert set(seen) == {(2, 3)}


def test_variables_that_a_pass_over_microbatches_adds():
  def loss_fn(model, x):
    model.last = nnx.Variable(x)
    return jnp.mean(model(x))

  with pytest.raises(ValueError, match=r"nnx.micro_value_and_grad: loss_fn adds variables.*aux"):
    flatopt.nnx.micro_value_and_grad(loss_fn, 3)(Model(), X)


def test_in_jax_jit():
  """A functional loop: split outside, merged inside."""
  graphdef, state = nnx.split(Model())

  @jax.jit
  def step(state, x):
    model = nnx.merge(graphdef, state)
    _, grads, grad_fn = flatopt.nnx.value_and_grad(own_state_loss)(model, x)
    again = grad_fn(nnx.state(model, nnx.Param))
    return grads, again, nnx.state(model)

  grads, again, state = step(state, X)
  assert_close(pure(grads), pure(again))
  assert int(state["dropout"]["rngs"]["count"][...]) == 1


def test_averaged_over_devices_it_is_the_global_batch():
  """Inside ``shard_map``, where the closure gets params that do not vary."""
  graphdef, params = nnx.split(nnx.Linear(3, 8, rngs=nnx.Rngs(0)))
  loss_fn = lambda model, x: jnp.mean(model(x) ** 4)
  mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
  average = lambda grads: jax.lax.pmean(grads, "data")

  def gradients(params, x):
    model = nnx.merge(graphdef, pcast(params, "data", to="varying"))
    _, grads, grad_fn = flatopt.nnx.value_and_grad(loss_fn, transform=average)(model, x)
    return pure(grads), grad_fn(params)

  replicated = PartitionSpec()
  specs = (replicated, PartitionSpec("data"))
  found = jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=replicated)(pure(params), X)
  expected = pure(nnx.grad(loss_fn)(nnx.merge(graphdef, params), X))
  for grads in found:
    assert_close(grads, expected)


@pytest.mark.parametrize(
  "make_step",
  [
    lambda loss_fn: flatopt.closures.value_and_grad(loss_fn),
    lambda loss_fn: flatopt.closures.micro_value_and_grad(loss_fn, num_microbatches=2),
  ],
  ids=["value_and_grad", "micro_value_and_grad"],
)
def test_functional_closures_work_in_nnx_optimizer(make_step):
  """nnx.Optimizer calls the closure without variables; the step was made with them."""
  loss_fn = lambda model, x: jnp.mean(model(x) ** 4)
  model, twin = (nnx.Linear(3, 8, rngs=nnx.Rngs(0)) for _ in range(2))
  tx = optax.chain(flatopt.sam(0.5), optax.sgd(0.1))
  optimizer, twin_optimizer = (nnx.Optimizer(m, tx, wrt=nnx.Param) for m in (model, twin))
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)
  micro_loss_fn = lambda p, x: loss_fn(nnx.merge(graphdef, *pure((p, rest))), x)
  _, grads, grad_fn = make_step(micro_loss_fn)(params, X)
  optimizer.update(model, grads, grad_fn=grad_fn)
  _, grads, grad_fn = flatopt.nnx.value_and_grad(loss_fn)(twin, X)
  twin_optimizer.update(twin, grads, grad_fn=grad_fn)
  assert_close(pure(nnx.state(model)), pure(nnx.state(twin)))


def test_eval_model_has_slow_weights_and_buffers_of_its_own():
  model = Model()
  optimizer = nnx.Optimizer(model, flatopt.lookahead(optax.sgd(0.1), sync_period=5), wrt=nnx.Param)
  nnx.update(model, jax.tree.map(lambda w: w + 0.5, nnx.state(model, nnx.Param)))  # as if loaded
  start = pure(nnx.state(model, nnx.Param))

  @nnx.jit
  def step(model, optimizer):
    optimizer.update(model, nnx.grad(own_state_loss)(model, X))

  for _ in range(2):  # of five: slow weights are those of the start
    step(model, optimizer)
  for opt_state in (optimizer.opt_state, pure(optimizer.opt_state)):
    copy = flatopt.nnx.eval_model(opt_state, model)
    assert_close(pure(nnx.state(copy, nnx.Param)), start)
    np.testing.assert_array_equal(copy.norm.mean[...], model.norm.mean[...])
    assert copy.norm.mean is not model.norm.mean
    assert not np.allclose(model.dense.kernel[...], start["dense"]["kernel"])
    with pytest.raises(ValueError, match=r"opt_state keeps 4.*flatopt.nnx.eval_model\("):
      flatopt.eval_params(opt_state, model)
  with pytest.raises(TypeError, match=r"is uint32.*NNX: pass nnx.state\(model, nnx.Param\)"):
    flatopt.check_optimizer(optax.chain(flatopt.sam(), optax.sgd(0.1)), model)
  model.norm.mean[...] = jnp.zeros(8)
  assert np.any(copy.norm.mean[...] != 0)
  plain = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
  copy = flatopt.nnx.eval_model(plain.opt_state, model)
  for leaf in jax.tree.leaves(pure(nnx.state(model, (nnx.Param, nnx.BatchStat)))):
    leaf.delete()
  assert np.all(np.isfinite(copy.dense.kernel[...]))
  assert np.all(np.isfinite(copy.norm.mean[...]))


@pytest.mark.parametrize("wrapper", [flatopt.lookahead, flatopt.sala, flatopt.weight_average])
def test_the_state_of_an_nnx_optimizer_can_be_read_with_and_without_variables(wrapper):
  model = Model()
  base = optax.chain(flatopt.sam(0.1), optax.sgd(0.1), flatopt.ire())
  optimizer = nnx.Optimizer(model, wrapper(base), wrt=nnx.Param)
  step_fn = flatopt.nnx.value_and_grad(own_state_loss)
  for _ in range(2):
    _, grads, grad_fn = step_fn(model, X)
    optimizer.update(model, grads, grad_fn=grad_fn)
  params = nnx.state(model, nnx.Param)
  wrapped, arrays = optimizer.opt_state, pure(optimizer.opt_state)

  assert flatopt.extra_gradient_evaluations(wrapped) == 4  # 2 of sam, 2 of hutchinson
  group_fn = lambda path: path.split("/")[0]
  metrics = flatopt.metrics(wrapped, group_fn=group_fn)
  assert_close(metrics, flatopt.metrics(arrays, group_fn=group_fn))
  assert all(isinstance(value, jax.Array) for value in metrics.values())
  assert metrics["sam/count"] == 2
  for opt_state in (wrapped, arrays):
    for given in (params, pure(params)):
      slow = flatopt.eval_params(opt_state, given)
      assert jax.tree.structure(slow) == jax.tree.structure(given)
      assert_close(pure(slow), arrays.eval_params(pure(params)))


@pytest.mark.parametrize("keep_variables", [True, False])
def test_a_dict_is_a_prefix_mask(keep_variables):
  """Of an ``nnx.State``, for frozen params and for SAM's perturbation, here w + eps = w + w."""
  params = nnx.state(Model(), nnx.Param)
  params = params if keep_variables else pure(params)
  mask = {"norm": False, "dense": {"kernel": True, "bias": False}}
  kernel = pure(params)["dense"]["kernel"]
  rho = jnp.linalg.norm(kernel)
  for optimizer, factors in (
    (flatopt.trainable(optax.sgd(1.0), mask), (-1, 0)),
    (flatopt.sam(rho, mask=mask), (2, 1)),
  ):
    updates, _ = optimizer.update(params, optimizer.init(params), params, grad_fn=lambda p: p)
    dense, norm = pure(updates)["dense"], pure(updates)["norm"]
    assert_close(dense["kernel"], factors[0] * kernel)
    assert_close(norm["scale"], factors[1] * pure(params)["norm"]["scale"])
  with pytest.raises(ValueError, match="trainable: mask does not fit the params"):
    flatopt.trainable(optax.sgd(1.0), {"other": True}).init(params)


@pytest.mark.parametrize("has_aux", [False, True])
def test_sharp_loss_takes_the_steps_of_sam_in_a_chain(x64, compiled, has_aux):
  """In ten plain ``nnx.value_and_grad`` steps: the same params, statistics and masks."""

  def loss_fn(model, x, rngs, *, scale):
    y = model(x)
    noise = jax.random.normal(rngs.noise(), y.shape)
    loss = jnp.mean((scale * y + noise) ** 4)
    return (loss, y) if has_aux else loss

  def wide():
    model = Model()
    nnx.update(model, jax.tree.map(_double, pure(nnx.state(model))))
    return model, nnx.Rngs(noise=3)

  method, base = flatopt.sam(0.1), optax.sgd(0.01, momentum=0.9)
  (model, rngs), (twin, twin_rngs) = wide(), wide()
  optimizer = nnx.Optimizer(model, base, wrt=nnx.Param)
  twin_optimizer = nnx.Optimizer(twin, optax.chain(method, base), wrt=nnx.Param)
  sharp = flatopt.nnx.sharp_loss(loss_fn, method, has_aux=has_aux)

  @compiled
  def step(model, optimizer, rngs, x):
    of_args = lambda model, x, rngs: sharp(model, x, rngs, scale=2.0)
    value, grads = nnx.value_and_grad(of_args, has_aux=has_aux)(model, x, rngs)
    optimizer.update(model, grads)
    return value

  @compiled
  def twin_step(model, optimizer, rngs, x):
    step_fn = flatopt.nnx.value_and_grad(loss_fn, has_aux=has_aux)
    value, grads, grad_fn = step_fn(model, x, rngs, scale=2.0)
    optimizer.update(model, grads, grad_fn=grad_fn)
    return value

  x = jnp.asarray(np.random.default_rng(2).normal(size=(16, 3)))
  state = lambda *nodes: pure(nnx.state(nodes, nnx.Not(nnx.RngKey)))
  for _ in range(10):
    value, expected = step(model, optimizer, rngs, x), twin_step(twin, twin_optimizer, twin_rngs, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), value, expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
    state(model, rngs),
    state(twin, twin_rngs),
  )
  assert int(rngs.noise.count[...]) == 10


def _double(x):
  return x.astype(jnp.float64) if x.dtype == jnp.float32 else x


def test_sharp_loss_without_a_derivative_is_one_pass():
  passes = []

  def loss_fn(model, x):
    passes.append(1)
    return jnp.mean(model(x))

  model, twin = Model(), Model()
  assert_close(flatopt.nnx.sharp_loss(loss_fn)(model, X), loss_fn(twin, X))
  assert len(passes) == 2  # one each
  assert_close(*(pure(nnx.state(m, nnx.Not(nnx.RngKey))) for m in (model, twin)))
  nnx.grad(flatopt.nnx.sharp_loss(loss_fn))(model, X)
  assert len(passes) == 4
  assert int(model.dropout.rngs.count[...]) == 2


def test_sharp_loss_binds_arguments_by_name():
  """As tunix's trainer passes the batch; a partial has no signature for NNX, with or without it."""
  square = lambda model, x, scale: jnp.mean((scale * model(x)) ** 2)
  model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
  by_position = nnx.grad(flatopt.nnx.sharp_loss(square))(model, X, 2.0)
  by_name = nnx.grad(flatopt.nnx.sharp_loss(square))(model, scale=2.0, x=X)
  of_partial = nnx.grad(flatopt.nnx.sharp_loss(functools.partial(square, scale=2.0)))(model, X)
  assert_close(by_position, by_name)
  assert_close(by_position, of_partial)
