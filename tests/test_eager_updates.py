"""Outside jit, an update compiles its programs once, not every step."""

import jax
import jax.numpy as jnp
import optax
import pytest

from tests.methods import METHODS, OPTIMIZERS


def eager_step(optimizer, params, state):
  grad_fn = lambda params: jax.tree.map(lambda w: 2 * w, params)
  sampled_grad_fn = lambda params, key: grad_fn(params)
  updates, state = optimizer.update(
    grad_fn(params), state, params, grad_fn=grad_fn, sampled_grad_fn=sampled_grad_fn
  )
  return optax.apply_updates(params, updates), state


# lookbehind loops by lax.scan, whose body is a new function on every call.
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lookbehind"])
def test_eager_updates_with_a_fresh_lambda_compile_once(name, compilations):
  """Nothing is compiled after the first steps, although the closure is a new function each time."""
  settings = {"probability": lambda count: count % 2} if name in ("rst", "g_rst") else {}
  optimizer = METHODS[name](**settings)
  params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
  state = optimizer.init(params)
  for i in range(8):
    if i == 4:  # both sides of every branch have been taken
      jax.jit(lambda: 1)()
      assert compilations, "compilations are heard of"
      compilations.clear()
    params, state = eager_step(optimizer, params, state)
  assert compilations == []
