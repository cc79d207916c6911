"""A problem of six coordinates whose gradient NumPy and JAX read alike, and loops over it.

Nothing here knows a method: each oracle is written out in its own test file.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

_rng = np.random.default_rng(0)
_root = _rng.normal(size=(6, 6))
MATRIX = _root @ _root.T / 6
START = _rng.normal(size=6)
PULLS = _rng.normal(size=(24, 6))  # what differs from step to step, like a batch
IS_KERNEL = np.arange(6) >= 2

# For what compiles far longer than it runs.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def gradient(w, pull):
  """Of w M w / 2 + sum w^4 / 4 - pull w."""
  return MATRIX @ w + w**3 - pull


def tree(vector):
  return {"bias": vector[:2], "kernel": vector[2:].reshape(2, 2)}


def flat(params):
  return jnp.concatenate([params["bias"], params["kernel"].ravel()])


def table(values):
  """A schedule that reads a table."""
  return lambda count: jnp.asarray(values)[count]


def follow(optimizer, num_steps, pulls=PULLS):
  """Params (flat) and states after each step from START, stacked."""

  def step(carry, pull):
    params, state = carry
    grad_fn = lambda p: tree(gradient(flat(p), pull))
    updates, state = optimizer.update(grad_fn(params), state, params, grad_fn=grad_fn)
    params = optax.apply_updates(params, updates)
    return (params, state), (flat(params), state)

  params = tree(jnp.asarray(START))
  scan = quick_jit(lambda carry: jax.lax.scan(step, carry, jnp.asarray(pulls[:num_steps]))[1])
  return scan((params, optimizer.init(params)))


def once(method, grads, params, *, state=None, **extra_args):
  """Output and state of one update."""
  state = method.init(params) if state is None else state
  return method.update(grads, state, params, **extra_args)


def drive(method, grads, params, **extra_args):
  """Outputs (flat) and states of a method given a row of gradients and of params a step."""

  def step(state, row):
    output, state = method.update(tree(row[0]), state, tree(row[1]), **extra_args)
    return state, (flat(output), state)

  rows = jnp.asarray(grads), jnp.asarray(params)
  state = method.init(tree(rows[1][0]))
  return quick_jit(lambda state: jax.lax.scan(step, state, rows)[1])(state)


# The base optimizer of the trajectories. It reads its params, which must be the right ones.
BASE = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
SKIPPING = optax.apply_if_finite(BASE, max_consecutive_errors=100)


def numpy_base():
  """SKIPPING, or BASE where gradients are finite, as a function of gradient and params."""
  trace = np.zeros(6)

  def step(grads, w):
    nonlocal trace
    if not np.isfinite(grads).all():
      return np.zeros(6)
    trace = grads + 0.1 * w + 0.9 * trace
    return -0.1 * trace

  return step


def unit(vector):
  norm = np.linalg.norm(vector)
  with np.errstate(invalid="ignore"):
    return vector / norm if norm != 0 else np.zeros_like(vector)


def with_rows(pulls, rows, value):
  """The pulls with a non-finite entry in some rows: there gradients are not finite."""
  pulls = pulls.copy()
  pulls[rows, 3] = value
  return pulls


def assert_close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-13)
