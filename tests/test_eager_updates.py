"""Outside jit, an update compiles its programs once, not every step."""

import jax
import jax.numpy as jnp
import optax
import pytest

import flatopt
from flatopt.curvature import gauss_newton_bartlett

BASE = optax.sgd(0.1)
EAGER = {
  "sam": flatopt.sam(),
  "asam": flatopt.asam(),
  "gsam": flatopt.gsam(),
  "looksam": flatopt.looksam(update_interval=2),
  "friendly_sam": flatopt.friendly_sam(),
  "rst": flatopt.rst(flatopt.sam(), lambda count: count % 2),
  "sala": flatopt.sala(BASE, sync_period=2),
  "lookahead": flatopt.lookahead(BASE, sync_period=2),
  "momentum_sam": flatopt.momentum_sam(BASE),
  "ire": flatopt.ire(curvature=gauss_newton_bartlett(), update_interval=2),
}


def eager_step(optimizer, params, state):
  grad_fn = lambda params: jax.tree.map(lambda w: 2 * w, params)
  sampled_grad_fn = lambda params, key: grad_fn(params)
  updates, state = optimizer.update(
    grad_fn(params), state, params, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
  )
  return optax.apply_updates(params, updates), state


@pytest.mark.parametrize("name", EAGER)
def test_eager_updates_with_a_fresh_lambda_compile_once(name, compilations):
  """Nothing is compiled after the first steps, although the closure is a new function each time."""
  optimizer = EAGER[name]
  params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
  state = optimizer.init(params)
  for i in range(8):
    if i == 4:  # both sides of every branch have been taken
      jax.jit(lambda: 1)()
      assert compilations, "compilations are heard of"
      compilations.clear()
    params, state = eager_step(optimizer, params, state)
  assert compilations == []
