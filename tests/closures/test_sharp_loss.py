"""``sharp_loss``: the loss's value, the method's gradient, under every transformation of JAX."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import flatopt
from flatopt.closures import micro_value_and_grad, sharp_loss
from tests.versions import set_mesh

pytestmark = pytest.mark.usefixtures("x64")
_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=(8, 3)), _rng.normal(size=8)
XS = np.stack([X, 2 * X])
W = {"w": _rng.normal(size=3), "b": np.array(0.3)}
RHO = 0.2


def loss_fn(params, x, y):
  return jnp.mean((x @ params["w"] + params["b"] - y) ** 4)


def clean_gradient(params, x=X, y=Y):
  slopes = 4 * (x @ params["w"] + params["b"] - y) ** 3
  return {"w": np.mean(slopes[:, None] * x, axis=0), "b": np.mean(slopes)}


def sharp_gradient(params=W, x=X, y=Y):
  grads = clean_gradient(params, x, y)
  norm = np.sqrt(np.sum(grads["w"] ** 2) + grads["b"] ** 2)
  return clean_gradient({k: params[k] + RHO * grads[k] / norm for k in params}, x, y)


def total(x=XS, y=(Y, Y)):
  grads = [sharp_gradient(x=part, y=targets) for part, targets in zip(x, y, strict=True)]
  return {k: sum(g[k] for g in grads) for k in W}


def assert_close(found, expected):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), found, expected)


def arrays(tree):
  return jax.tree.map(jnp.asarray, tree)


SHARP = sharp_loss(loss_fn, flatopt.sam(RHO))
OF_X = lambda params, x: SHARP(params, x, jnp.asarray(Y))
CLOSED = lambda params, x: sharp_loss(lambda p: loss_fn(p, x, Y), flatopt.sam(RHO))(params)
RHO_TRACED = lambda params, rho: sharp_loss(loss_fn, flatopt.sam(rho))(params, X, Y)
IN_SCAN = lambda fn: (
  lambda w, x: jax.lax.scan(lambda total, part: (total + fn(w, part), None), jnp.zeros(()), x)[0]
)
IN_VMAP = lambda fn: lambda w, x: jnp.sum(jax.vmap(fn, (None, 0))(w, x))
TRANSFORMED = {
  "grad": (jax.grad(OF_X), X),
  "value_and_grad": (lambda w, x: jax.value_and_grad(OF_X)(w, x)[1], X),
  "jit of grad": (jax.jit(jax.grad(OF_X)), X),
  "grad of jit": (jax.grad(jax.jit(OF_X)), X),
  "jacfwd": (jax.jacfwd(OF_X), X),
  "jacrev": (jax.jacrev(OF_X), X),
  "remat": (jax.jit(jax.grad(jax.checkpoint(OF_X))), X),
  "grad of scan": (jax.grad(IN_SCAN(OF_X)), XS),
  "grad of vmap": (jax.grad(IN_VMAP(OF_X)), XS),
  "closed over, jit of grad": (jax.jit(jax.grad(CLOSED)), X),
  "closed over, grad of jit": (jax.grad(jax.jit(CLOSED)), X),
  "closed over, grad of scan": (jax.grad(IN_SCAN(CLOSED)), XS),
  "closed over, grad of vmap": (jax.grad(IN_VMAP(CLOSED)), XS),
  "rho traced, grad of jit": (lambda w, _: jax.grad(jax.jit(RHO_TRACED))(w, RHO), X),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_the_gradient_is_sams(name):
  fn, x = TRANSFORMED[name]
  assert_close(fn(arrays(W), jnp.asarray(x)), sharp_gradient() if x is X else total())


def test_per_example_and_in_scan():
  expected = [sharp_gradient(x=x) for x in XS]
  expected = {k: np.stack([g[k] for g in expected]) for k in W}
  params, xs = arrays(W), jnp.asarray(XS)
  assert_close(jax.vmap(jax.grad(OF_X), (None, 0))(params, xs), expected)
  in_scan = jax.lax.scan(lambda _, x: (None, jax.grad(OF_X)(params, x)), None, xs)[1]
  assert_close(in_scan, expected)


def test_microbatches():
  step_fn = micro_value_and_grad(lambda w, batch: SHARP(w, *batch), 2)
  loss, grads, _ = step_fn(arrays(W), (jnp.asarray(X), jnp.asarray(Y)))
  parts = total((X[::2], X[1::2]), (Y[::2], Y[1::2]))
  assert_close(grads, {k: parts[k] / 2 for k in W})
  assert_close(loss, loss_fn(W, X, Y))


def test_the_value_is_the_loss_and_the_other_arguments_have_its_derivative():
  params, x = arrays(W), jnp.asarray(X)
  elsewhere = sharp_loss(loss_fn, flatopt.sam(axis_name="d"))  # evaluated without the axis
  for sharp in (SHARP, jax.jit(elsewhere), lambda _, x, y: elsewhere(W, x, y)):
    assert_close(jax.jit(sharp)(params, x, Y), loss_fn(W, X, Y))
  value, (by_params, by_x) = jax.value_and_grad(OF_X, argnums=(0, 1))(params, x)
  assert_close(value, loss_fn(W, X, Y))
  assert_close(by_params, sharp_gradient())
  own = jax.grad(loss_fn, argnums=1)(params, x, Y)
  assert_close(by_x, own)
  assert_close(jax.grad(OF_X, argnums=1)(params, x), own)
  numbers = jax.grad(OF_X, argnums=(0, 1))(W | {"b": 0.3}, X)  # of NumPy and of Python
  assert_close(numbers, (sharp_gradient(), own))
  assert_close(jax.grad(jax.jit(lambda x: CLOSED(params, x)))(x), own)
  _, slope = jax.jvp(OF_X, (params, x), (params, x))
  expected = sum(np.sum(sharp_gradient()[k] * W[k]) for k in W) + np.sum(own * X)
  assert_close(slope, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_two_gradients_where_differentiated_and_one_pass_where_evaluated(compiled):
  runs = []

  def counted(w, x):
    jax.debug.callback(lambda _: runs.append(1), w[0])
    return jnp.sum(w**4 * x)

  transform = jax.jit if compiled else lambda fn: fn
  sharp, w = sharp_loss(counted), jnp.ones(3)
  for fn, cost in (
    (sharp, 1),
    (jax.grad(sharp), 2),
    (jax.value_and_grad(sharp), 2),
    (jax.grad(sharp, argnums=1), 1),
    (jax.grad(sharp, argnums=(0, 1)), 2),
  ):
    runs.clear()
    jax.block_until_ready(transform(fn)(w, jnp.ones(3)))
    jax.effects_barrier()
    assert len(runs) == cost


def test_ten_steps_are_those_of_sam_in_a_chain():
  base = optax.sgd(0.01, momentum=0.9)
  sharp = optax.chain(flatopt.asam(RHO), base)
  ours = theirs = arrays(W)
  our_state, their_state = base.init(ours), sharp.init(theirs)
  loss = sharp_loss(loss_fn, flatopt.asam(RHO))
  for _ in range(10):
    updates, our_state = base.update(jax.grad(loss)(ours, X, Y), our_state, ours)
    ours = optax.apply_updates(ours, updates)
    grad_fn = lambda w: jax.grad(loss_fn)(w, X, Y)
    updates, their_state = sharp.update(grad_fn(theirs), their_state, theirs, grad_fn=grad_fn)
    theirs = optax.apply_updates(theirs, updates)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)


def test_leaves_that_are_not_floating_flags_and_aux_pass_through():
  params = {"w": jnp.ones(2), "index": jnp.array([1, 0]), "name": "model", "nothing": None}

  def loss_fn(params, key, *, train):
    assert (params["name"], params["nothing"], train) == ("model", None, True)
    kept = jax.random.bernoulli(key, 1.0, (2,))
    return jnp.sum(kept * params["w"][params["index"]] ** 4), {"kept": kept, "text": "aux"}

  sharp = sharp_loss(loss_fn, flatopt.sam(0.1, mask={"w": True}), has_aux=True)
  of_w = lambda w, key: sharp(params | {"w": w}, key, train=True)
  with jax.numpy_dtype_promotion("standard"):
    (loss, aux), grads = jax.value_and_grad(of_w, has_aux=True)(params["w"], jax.random.key(0))
  assert loss == 2
  assert aux["kept"].tolist() == [True, True]
  assert aux["text"] == "aux"
  assert_close(grads, np.full(2, 4 * (1 + 0.1 / np.sqrt(2)) ** 3))


def test_the_signature_is_that_of_the_loss():
  """``jit`` finds a static argument by its name, however it is passed."""
  scaled = lambda params, scale: {"half": 0.5, "one": 1.0}[scale] * loss_fn(params, X, Y)
  value_and_grad = jax.value_and_grad(jax.jit(sharp_loss(scaled), static_argnames="scale"))
  assert_close(value_and_grad(arrays(W), "half"), value_and_grad(arrays(W), scale="half"))


def test_masks_ascents_and_half_precision():
  params = {"a": jnp.ones(1, jnp.bfloat16), "b": jnp.ones(1, jnp.bfloat16)}
  sign = optax.stateless(lambda grads, params: jax.tree.map(jnp.sign, grads))
  loss_fn = lambda p: jnp.sum(p["a"] ** 4 + p["b"] ** 4)
  method = flatopt.sam(0.5, mask={"a": True, "b": False}, ascent=sign)
  grads = jax.grad(sharp_loss(loss_fn, method))(params)
  assert {g.dtype for g in grads.values()} == {jnp.dtype(jnp.bfloat16)}
  assert [float(grads[k][0]) for k in "ab"] == [4 * 1.5**3, 4.0]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_sharded_params_and_batch(kind):
  mesh = jax.make_mesh((2,), ("d",), axis_types=(kind,))
  loss_fn = lambda w, x: jnp.sum((w * x) ** 4)
  w, x = _rng.normal(size=4), _rng.normal(size=4)
  expected = jax.grad(sharp_loss(loss_fn))(jnp.asarray(w), x)
  with set_mesh(mesh):
    placed = jax.device_put((w, x), NamedSharding(mesh, PartitionSpec("d")))
    found = jax.jit(jax.grad(sharp_loss(loss_fn)))(*placed)
    assert found.sharding.spec == PartitionSpec("d")
  assert_close(found, expected)


PER_DEVICE = total(X.reshape(2, 4, 3), Y.reshape(2, 4))
MEAN = lambda *args: jax.lax.pmean(loss_fn(*args), "d")
GLOBAL = {k: 2 * g for k, g in sharp_gradient().items()}
IN_SHARD_MAP = {
  "the loss averages": (MEAN, flatopt.sam(RHO), sharp_gradient()),
  "a loss for each device": (loss_fn, flatopt.sam(RHO, shard_axes=()), PER_DEVICE),
  "the method averages": (loss_fn, flatopt.sam(RHO, axis_name="d"), PER_DEVICE),
  "synchronised": (loss_fn, flatopt.sam(RHO, axis_name="d", sync_perturbation=True), GLOBAL),
}


@pytest.mark.parametrize("name", IN_SHARD_MAP)
def test_in_shard_map(name):
  """The gradient by replicated params is summed over devices, as ``jax.grad`` of any loss is."""
  loss, method, expected = IN_SHARD_MAP[name]
  mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
  replicated, split = PartitionSpec(), PartitionSpec("d")
  gradient = jax.grad(sharp_loss(loss, method))
  mapped = jax.shard_map(
    gradient, mesh=mesh, in_specs=(replicated, split, split), out_specs=replicated
  )
  assert_close(jax.jit(mapped)(arrays(W), jnp.asarray(X), jnp.asarray(Y)), expected)


def test_params_sharded_in_shard_map():
  mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
  w = jnp.asarray(_rng.normal(size=4))
  loss_fn = lambda w: jax.lax.psum(jnp.sum(w**4), "d")
  sharp = sharp_loss(loss_fn, flatopt.sam(RHO, shard_axes="d"))
  slope = lambda w: jax.jvp(sharp, (w,), (w,))[1]
  split, replicated = PartitionSpec("d"), PartitionSpec()
  in_shards = lambda fn, spec: jax.shard_map(fn, mesh=mesh, in_specs=split, out_specs=spec)(w)
  whole = jax.grad(sharp_loss(lambda w: jnp.sum(w**4), flatopt.sam(RHO)))(w)
  assert_close(in_shards(jax.grad(sharp), split), whole)
  assert_close(in_shards(slope, replicated), jnp.vdot(whole, w))


SECOND = {
  "hessian": lambda w: jax.hessian(OF_X)(w, X),
  "gradient of the gradient": lambda w: jax.grad(lambda w: jnp.sum(jax.grad(OF_X)(w, X)["w"]))(w),
  "by another argument": lambda w: jax.jacfwd(lambda x: jax.grad(OF_X)(w, x))(jnp.asarray(X)),
  "of the value": lambda w: jax.grad(lambda w: jax.value_and_grad(OF_X)(w, X)[0])(w),
}


@pytest.mark.parametrize("name", SECOND)
def test_a_second_derivative_says_what_to_differentiate(name):
  for fn in (SECOND[name], jax.jit(SECOND[name])):
    with pytest.raises(TypeError, match=r"differentiated once only.*differentiate loss_fn itself"):
      fn(arrays(W))


def test_an_array_closed_over_that_is_differentiated():
  with pytest.raises(ValueError, match=r"closes over an array.*pass it as an argument"):
    jax.grad(lambda x: CLOSED(arrays(W), x))(jnp.asarray(X))


REFUSED = {
  "gsam": flatopt.gsam(),
  "rst": flatopt.rst(flatopt.sam()),
  "ire": flatopt.ire(rho=0.1),
  "lookahead": flatopt.lookahead(optax.sgd(0.1)),
  "a chain": optax.chain(flatopt.sam(), optax.sgd(0.1)),
  "sam with an ascent that keeps a state": flatopt.sam(ascent=optax.scale_by_adam()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_methods_whose_state_matters(name):
  message = re.escape(f"got {name}. Put this one into the optimizer")
  with pytest.raises(TypeError, match=f"method must be flatopt.sam or flatopt.asam.*{message}"):
    sharp_loss(loss_fn, REFUSED[name])(arrays(W), X, Y)


@pytest.mark.parametrize(
  "rho", [optax.linear_schedule(0.1, 0.2, 9), lambda count: 0.1 / (1 + count)]
)
def test_schedules(rho):
  with pytest.raises(
    TypeError, match=r"a hyper-parameter of the method is a schedule.*pass a number"
  ):
    jax.grad(sharp_loss(loss_fn, flatopt.sam(rho)))(arrays(W), X, Y)


def test_bad_losses_and_methods():
  with pytest.raises(TypeError, match=r"sharp_loss: loss_fn must return a real floating scalar"):
    sharp_loss(lambda w: w)(jnp.ones(2))
  with pytest.raises(TypeError, match=r"sharp_loss: loss_fn returned a tuple.*has_aux=True"):
    sharp_loss(lambda w: (jnp.sum(w), 1))(jnp.ones(2))
  with pytest.raises(
    TypeError, match=r"sharp_loss: method must be an optax.GradientTransf.*call it"
  ):
    sharp_loss(loss_fn, flatopt.sam)
