# %% [markdown]
# # A new method in thirty lines
#
# A method is an optax transformation that may call `grad_fn`. So a new one needs nothing of flatopt but its
# manners: what `update` takes, what a state says of itself, and in which precision to compute.
#
# The one here looks to both sides: it averages the gradients at $w + \varepsilon$ and $w - \varepsilon$. To first
# order the two perturbations cancel, and what remains is the gradient of the loss plus half its curvature along
# $\varepsilon$.

# %%
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import flatopt


class BothSidesState(NamedTuple):
  count: jax.Array

  method = "both_sides"  # what metrics() calls it

  @property
  def extra_gradients(self):  # what it has paid for, and extra_gradient_evaluations() adds up
    return 2 * self.count

  def metrics(self):
    return {"count": self.count}


def both_sides(rho=0.05):
  """The mean of the gradients a step of length ``rho`` uphill and downhill."""

  def init(params):
    return BothSidesState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, *, grad_fn, **extra_args):
    radius = rho(state.count) if callable(rho) else rho
    norm = optax.tree.norm(updates)
    scale = jnp.where(norm > 0, radius / jnp.where(norm > 0, norm, 1), 0)
    eps = optax.tree.scale(scale, updates)
    sides = grad_fn(optax.tree.add(params, eps)), grad_fn(optax.tree.sub(params, eps))
    return optax.tree.scale(0.5, optax.tree.add(*sides)), BothSidesState(state.count + 1)

  return optax.GradientTransformationExtraArgs(init, update)


# %% [markdown]
# `**extra_args` takes whatever else is passed to `update`, so that the method stands in a chain with others. A
# schedule in place of a number is one `callable` away. The guards around the norm make a zero gradient a zero
# perturbation, and not NaN.
#
# ## It works where the others do

# %%
loss_fn = lambda w: jnp.sum(jnp.array([1.0, 10.0]) * w**2) + jnp.sum(w**4)
grad_fn = jax.grad(loss_fn)


def train(optimizer, num_steps=50):
  def step(carry, _):
    w, state = carry
    updates, state = optimizer.update(grad_fn(w), state, w, grad_fn=grad_fn)
    return (optax.apply_updates(w, updates), state), loss_fn(w)

  w = jnp.array([1.0, 1.0])
  (_, state), losses = jax.jit(lambda c: jax.lax.scan(step, c, length=num_steps))(
    (w, optimizer.init(w))
  )
  return losses[-1], state


sgd = optax.sgd(0.02, momentum=0.5)
for name, optimizer in {
  "both sides": optax.chain(both_sides(0.1), sgd),
  "on half of the steps": optax.chain(flatopt.rst(both_sides(0.1), probability=0.5), sgd),
  "inside Lookahead": flatopt.lookahead(optax.chain(both_sides(0.1), sgd)),
}.items():
  loss, state = train(optimizer)
  extra = int(flatopt.extra_gradient_evaluations(state))
  print(f"{name}: loss {loss:.1e}, {extra} extra gradients in 50 steps")

# %%
flatopt.metrics(state)

# %% [markdown]
# ## Is it right?
#
# Compare one step with the equation, computed by other means. On a loss of degree four the mean of both sides is
# known in closed form: $4 (w^3 + 3 w \, \varepsilon^2)$ for $w^4$.

# %%
w, quartic = jnp.array([2.0]), jax.grad(lambda w: jnp.sum(w**4))
method = both_sides(rho=0.5)
output, _ = method.update(quartic(w), method.init(w), w, grad_fn=quartic)
print(f"{output[0]:.3f}, by hand {4 * (2.0**3 + 3 * 2.0 * 0.5**2):.3f}")

# %% [markdown]
# ## To contribute it
#
# In the repository a method comes with a test of its equation, one line in the registry that every contract test
# runs on, and a page. `CONTRIBUTING.md` lists the steps.
