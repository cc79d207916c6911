"""Measures that are taken every epoch compile in the first; what is kept does not pile up."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flatopt import sharpness


@pytest.fixture
def compilations():
  """The durations of XLA's compilations, as they happen."""
  durations = []

  def listen(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      durations.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield durations
  jax.monitoring.unregister_event_duration_listener(listen)


BATCHES = [jnp.arange(12.0).reshape(4, 3) / (10 + i) for i in range(2)]


def over(fn):
  return sharpness.over_iterable(fn, list(BATCHES))


def make_closures(kind):
  """New functions, and what makes a loss and a gradient of them anew in every epoch."""
  batch_loss_fn = lambda w, x: jnp.mean(jnp.tanh(x @ w) ** 2)
  batch_grad_fn = jax.grad(batch_loss_fn)
  loss_fn = lambda w: batch_loss_fn(w, BATCHES[0])
  grad_fn = jax.grad(loss_fn)
  logits_fn, loss_of_logits_fn = lambda w, x: jnp.tanh(x @ w), lambda z, x: jnp.mean(z**2)
  scanned = sharpness.over_batches(batch_loss_fn, jnp.stack(BATCHES))
  scanned_grad_fn = jax.grad(scanned)
  return {
    "plain": (lambda: loss_fn, lambda: grad_fn),
    "scan": (lambda: scanned, lambda: scanned_grad_fn),
    "host": (lambda: over(batch_loss_fn), lambda: over(batch_grad_fn)),
    "reverse": (None, lambda: sharpness.hessian(grad_fn, mode="reverse-reverse")),
    "reverse host": (None, lambda: sharpness.hessian(over(batch_grad_fn), mode="reverse-reverse")),
    "gauss_newton host": (
      None,
      lambda: over(sharpness.gauss_newton(logits_fn, loss_of_logits_fn)),
    ),
  }[kind]


FULL = {"num_matvecs": 3, "key": 0}
GRADIENT_MEASURES = {
  "hessian_vector_product": lambda fn, w: sharpness.hessian_vector_product(fn, w, w),
  "top_eigenvalues": lambda fn, w: sharpness.top_eigenvalues(fn, w, **FULL),
  "low memory": lambda fn, w: sharpness.top_eigenvalues(fn, w, num_matvecs=3, basis_size=3, key=0),
  "smallest_eigenvalues": lambda fn, w: sharpness.smallest_eigenvalues(fn, w, mask=True, **FULL),
  "trace": lambda fn, w: sharpness.trace(fn, w, num_samples=2, key=0),
  "spectral_density": lambda fn, w: sharpness.spectral_density(fn, w, num_samples=2, **FULL),
}
LOSS_MEASURES = {
  "ascent": lambda fn, w: sharpness.ascent(fn, w, rho=0.1, num_steps=2, eta=0.1),
  "average": lambda fn, w: sharpness.average(fn, w, sigma=0.1, num_samples=2, key=0),
  "loss_landscape": lambda fn, w: sharpness.loss_landscape(fn, w, (w,), resolution=3),
}
CASES = [
  (kind, name)
  for kind in ("plain", "scan", "host", "reverse", "reverse host", "gauss_newton host")
  for name in (*GRADIENT_MEASURES, *(LOSS_MEASURES if kind in ("plain", "scan", "host") else ()))
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_second_call_compiles_nothing(kind, name, compilations):
  make_loss, make_grad = make_closures(kind)
  measure, make = (
    (LOSS_MEASURES[name], make_loss)
    if name in LOSS_MEASURES
    else (GRADIENT_MEASURES[name], make_grad)
  )
  epochs = [jnp.array([0.1, 0.2, 0.3]), jnp.array([0.7, -0.2, 0.5])]
  first = jax.block_until_ready(measure(make(), epochs[0]))
  compilations.clear()
  second = jax.block_until_ready(measure(make(), epochs[1]))
  assert not compilations
  # What is kept is the program, not its result.
  assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True))


def test_a_measure_is_compiled_at_first(compilations):
  """Else the tests above would see nothing."""
  _, make = make_closures("host")
  sharpness.trace(make(), jnp.ones(3), num_samples=2, key=0)
  assert compilations


def test_options_are_part_of_the_program():
  """And so are modes and masks; each gets its own."""
  w = jnp.array([0.1, 0.2, 0.3])
  fn = jax.grad(lambda w: jnp.sum(w**4))
  assert sharpness.trace(fn, w, num_samples=2, key=0).mean == pytest.approx(
    12 * (0.01 + 0.04 + 0.09), rel=1e-5
  )
  tree = {"a": w, "b": 2 * w}
  fn = jax.grad(lambda tree: jnp.sum(tree["a"] ** 4) + jnp.sum(tree["b"] ** 4))
  traces = {
    leaf: float(sharpness.trace(fn, tree, mask={"a": leaf == "a", "b": leaf == "b"}, key=0).mean)
    for leaf in "ab"
  }
  assert traces == pytest.approx({"a": 12 * 0.14, "b": 12 * 4 * 0.14}, rel=1e-5)
  top, _ = sharpness.top_eigenvalues(fn, tree, num_matvecs=6, key=0)
  smallest, _ = sharpness.smallest_eigenvalues(fn, tree, num_matvecs=6, key=0)
  assert float(top[0]) == pytest.approx(12 * 0.36, rel=1e-5)
  assert float(smallest[0]) == pytest.approx(12 * 0.01, rel=1e-4)


def test_fresh_functions_and_their_data_are_let_go():
  def measure_afresh():
    data = jnp.arange(3.0) + 1
    sharpness.trace(lambda w: data * w, jnp.ones(3), num_samples=1, key=0)
    return weakref.ref(data)

  references = [measure_afresh() for _ in range(20)]
  gc.collect()
  assert sum(reference() is not None for reference in references) <= 16


def test_a_function_without_a_hash():
  class Gradient:
    __hash__ = None

    def __call__(self, w):
      return 2 * w

  assert sharpness.trace(Gradient(), jnp.ones(3), key=0).mean == 6
  on_host = sharpness.over_iterable(lambda w, _: Gradient()(w), [0])
  assert sharpness.trace(on_host, jnp.ones(3), key=0).mean == 6


def test_no_tracer_outlives_a_jit():
  @jax.jit
  def measure(scale):
    return sharpness.trace(lambda w: scale * w, jnp.ones(3), num_samples=1, key=0).mean

  with jax.checking_leaks():
    assert (measure(2.0), measure(3.0)) == (6.0, 9.0)


SCALE = jnp.array(1.0)


def grad_fn_of_a_global(w):
  return jax.grad(lambda w: SCALE * jnp.sum(w**2))(w)


def test_arrays_that_a_function_closes_over_may_be_rebound(monkeypatch):
  """Another batch under the same name is another program, not the first one's numbers."""
  scale = jnp.array(1.0)
  loss_fn = lambda w: scale * jnp.sum(w**2)
  nested_grad_fn = jax.grad(loss_fn)
  batch = {"scale": jnp.array(1.0)}
  dict_grad_fn = lambda w: jax.grad(lambda w: batch["scale"] * jnp.sum(w**2))(w)
  measure = lambda fn: float(sharpness.trace(fn, jnp.ones(3), num_samples=2, key=0).mean)
  average = lambda: float(sharpness.ascent(loss_fn, jnp.ones(3), rho=0.1))
  grad_fns = nested_grad_fn, dict_grad_fn, grad_fn_of_a_global
  assert [measure(fn) for fn in grad_fns] == pytest.approx([6, 6, 6])
  before = average()
  scale, batch = jnp.array(2.0), {"scale": jnp.array(2.0)}
  monkeypatch.setattr(f"{__name__}.SCALE", jnp.array(2.0))
  assert [measure(fn) for fn in grad_fns] == pytest.approx([12, 12, 12])
  assert average() == pytest.approx(2 * before, rel=1e-5)
