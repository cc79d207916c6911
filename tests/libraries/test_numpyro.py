"""NumPyro: a subclass of its optimizer, in which every method runs."""

import jax
import optax
import pytest
from numpyro.infer.svi import SVIState

import flatopt
from tests.libraries import by_hand, page

pytestmark = pytest.mark.libraries


def problem(found):
  """Returns the start in unconstrained space, and the loss with the random key of each step."""
  svi, y = found["svi"], found["y"]
  first = svi.init(jax.random.key(0), y)
  keys = [first.rng_key]
  for _ in range(found["num_steps"]):
    keys.append(jax.random.split(keys[-1])[0])
  keys = jax.numpy.stack(keys)

  def loss_fn(params, step):
    return svi.evaluate(SVIState((step, (params, None)), None, keys[step]), y)

  return svi.optim.get_params(first.optim_state), loss_fn


def unconstrained(result):
  return result.state.optim_state[1][0]


def test_steps(num_steps):
  found = page.run("NumPyro", num_steps=num_steps)
  start, loss_fn = problem(found)
  by_hand.check(unconstrained(found["result"]), loss_fn, start, num_steps)


@pytest.mark.parametrize(
  "optimizer",
  [
    optax.chain(flatopt.rst(flatopt.sam()), optax.sgd(0.01)),
    flatopt.sala(optax.sgd(0.01), sync_period=2, rho=10.0),
    optax.chain(optax.sgd(0.01), flatopt.ire(update_interval=2)),
  ],
  ids=["rst", "sala", "ire"],
)
def test_methods_with_a_state(optimizer):
  found = page.run("NumPyro", sam_and_base=optimizer)
  params, loss_fn = problem(found)
  opt_state = optimizer.init(params)
  step_fn = flatopt.closures.value_and_grad(loss_fn)

  @jax.jit
  def train_step(params, opt_state, step):
    _, grads, grad_fn = step_fn(params, step)
    updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), opt_state

  for step in range(10):
    params, opt_state = train_step(params, opt_state, step)
  assert int(flatopt.extra_gradient_evaluations(opt_state)) > 0
  for name, value in unconstrained(found["result"]).items():
    assert abs(value - params[name]) < 1e-10


def test_a_state_goes_on():
  found = page.run("NumPyro")
  svi, y = found["svi"], found["y"]
  half = svi.run(jax.random.key(0), 5, y, progress_bar=False)
  whole = svi.run(None, 5, y, progress_bar=False, init_state=half.state)
  assert unconstrained(whole) == unconstrained(found["result"])
