# %% [markdown]
# # Measure and draw flatness
#
# Is the minimum that SAM found really flatter? This page trains two optimizers on the same data and
# measures the loss around both minima: the largest eigenvalue and the trace of its Hessian, and how
# far it rises in the worst direction. Then it draws the loss and the spectrum of the Hessian.

# %%
import jax
import jax.numpy as jnp
import optax

import flatopt
from flatopt import plots, sharpness

keys = jax.random.split(jax.random.key(0), 4)
x = jax.random.normal(keys[0], (64, 4))
y = x[:, 0] * x[:, 1] + 0.5 * jax.random.normal(keys[1], (64,))  # signal and noise


def loss_fn(params):
  hidden = jnp.tanh(x @ params["kernel"] + params["bias"])
  return jnp.mean((hidden @ params["out"] - y) ** 2)


grad_fn = jax.grad(loss_fn)
start = {
  "kernel": jax.random.normal(keys[2], (4, 32)),
  "bias": jnp.zeros(32),
  "out": 0.3 * jax.random.normal(keys[3], (32,)),
}


def train(optimizer, num_steps):
  def step(carry, _):
    params, opt_state = carry
    updates, opt_state = optimizer.update(grad_fn(params), opt_state, params, grad_fn=grad_fn)
    return (optax.apply_updates(params, updates), opt_state), None

  carry = (start, optimizer.init(start))
  (params, opt_state), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=num_steps))(carry)
  return flatopt.eval_params(opt_state, params)


sgd = optax.with_extra_args_support(optax.sgd(0.05, momentum=0.9))
minima = {
  "sgd": train(sgd, 2000),
  "sam": train(optax.chain(flatopt.sam(rho=0.3), sgd), 1000),
}

# %% [markdown]
# ## Numbers
#
# Every measure takes the loss, or its gradient, as a function of the params. Outside of `jax.jit`,
# each call compiles the measure. So jit your measures, with the params and the batch as arguments:
# then each is compiled once. If the data do not fit into one batch, make the function with
# `sharpness.over_batches` or `sharpness.over_iterable`.


# %%
@jax.jit
def measure(params):
  values, _ = sharpness.top_eigenvalues(grad_fn, params, num=1, num_matvecs=20, key=0)
  trace = sharpness.trace(grad_fn, params, num_samples=16, key=0)
  return values[0], trace, sharpness.ascent(loss_fn, params, rho=0.3, num_steps=5)


for name, params in minima.items():
  largest, trace, worst = measure(params)
  print(
    f"{name}: loss {loss_fn(params):.3f}, largest eigenvalue {largest:.2f},"
    f" trace {trace.mean:.1f} ± {trace.standard_error:.1f}, rise within 0.3 {worst:.3f}"
  )

# %% [markdown]
# ## Along a direction
#
# The directions are random and *filter-normalised*: each filter of a direction has the same norm as
# this filter of the params. So you can compare two networks whose weights differ in scale.


# %%
@jax.jit
def along_a_direction(params):
  directions = sharpness.filter_normalized_directions(params, num=1, key=1)
  return sharpness.loss_landscape(loss_fn, params, directions, resolution=31)


lines = {name: along_a_direction(params) for name, params in minima.items()}

# %%
ax = None
for name, losses in lines.items():
  ax = plots.landscape_line(losses, label=name, ax=ax)
ax

# %% [markdown]
# ## On a plane
#
# With two directions, `loss_landscape` computes the loss on a grid, and `plots.landscape_contours`
# draws it. To draw several planes side by side, make the axes with
# `pyplot.subplots(1, 2, layout="constrained")`, so that labels do not overlap, and pass each as `ax`.

# %%
directions = sharpness.filter_normalized_directions(minima["sam"], num=2, key=1)
plane = sharpness.loss_landscape(loss_fn, minima["sam"], directions, resolution=15)

# %%
plots.landscape_contours(plane)

# %% [markdown]
# ## The spectrum
#
# `spectral_density` estimates how all eigenvalues of the Hessian are distributed. Most eigenvalues
# are near zero. The few large ones on the right belong to the sharp directions.


# %%
@jax.jit
def density(params):
  return sharpness.spectral_density(grad_fn, params, num_matvecs=16, num_samples=2, key=0)


spectra = {name: density(params) for name, params in minima.items()}

# %%
ax = None
for name, spectrum in spectra.items():
  ax = plots.spectrum(spectrum, label=name, ax=ax)
ax

# %% [markdown]
# [Measuring sharpness](../sharpness.md) explains which measure answers which question, what each
# costs, and in which cases it can mislead you.
