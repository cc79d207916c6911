# %% [markdown]
# # A new method in thirty lines
#
# A method is an optax transformation that may call `grad_fn`. To write your own, you need no code
# of flatopt. Three conventions are enough for training with it on one device: `update` takes extra
# arguments, the state has a name and counts its extra gradients, and a zero gradient gives a zero
# perturbation. What a complete method does besides is [at the end](#what-a-complete-method-does-too).
#
# The method on this page computes two gradients, at $w + \varepsilon$ and at $w - \varepsilon$, and
# averages them. The terms that are linear in $\varepsilon$ cancel. What remains is the gradient of
# the loss plus half of its second derivative along $\varepsilon$.

# %%
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import flatopt


class BothSidesState(NamedTuple):
  count: jax.Array

  method = "both_sides"  # the name in flatopt.metrics

  @property
  def extra_gradients(self):  # flatopt.extra_gradient_evaluations adds these up
    return 2 * self.count

  def metrics(self):
    return {"count": self.count}


def both_sides(rho=0.05):
  """The mean of two gradients: at the distance ``rho`` uphill, and at ``rho`` downhill."""

  def init(params):
    return BothSidesState(count=jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, *, grad_fn, step=None, **extra_args):
    radius = rho(state.count if step is None else step) if callable(rho) else rho
    norm = optax.tree.norm(updates)
    scale = jnp.where(norm > 0, radius / jnp.where(norm > 0, norm, 1), 0)
    eps = optax.tree.scale(scale, updates)
    sides = grad_fn(optax.tree.add(params, eps)), grad_fn(optax.tree.sub(params, eps))
    return optax.tree.scale(0.5, optax.tree.add(*sides)), BothSidesState(state.count + 1)

  return optax.GradientTransformationExtraArgs(init, update)


# %% [markdown]
# `**extra_args` accepts everything else that is passed to `update`, so that the method can be in a
# chain with others. With `callable(rho)`, a schedule also works. Inside `rst` the method is not
# called on every step, so its own count lags behind; `rst` passes its own step as `step`. The two
# `jnp.where` make the perturbation zero, not NaN, if the gradient is zero.
#
# Two things flatopt does for its own methods only: from `value_fn` or `obj_fn` it makes a `grad_fn`
# that is not passed, and `check_optimizer` looks at their inputs and outputs. So always pass
# `grad_fn` to your method, and put it before the base optimizer yourself.
#
# ## It works with the other methods
#
# The method works alone, inside `rst`, and inside a wrapper such as `lookahead`:

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
# Compare one step with a result that you compute in another way. For the loss $w^4$, the mean of
# both gradients has a closed form: $4 (w^3 + 3 w \, \varepsilon^2)$.

# %%
w, quartic = jnp.array([2.0]), jax.grad(lambda w: jnp.sum(w**4))
method = both_sides(rho=0.5)
output, _ = method.update(quartic(w), method.init(w), w, grad_fn=quartic)
print(f"method {output[0]:.3f}, closed form {4 * (2.0**3 + 3 * 2.0 * 0.5**2):.3f}")

# %% [markdown]
# ## What a complete method does too
#
# - **Random numbers**: make the key from the count,
#   `jax.random.fold_in(jax.random.key(seed), state.count)`, and keep no key in the state. Then a
#   run that is resumed draws the same numbers, and so do all devices.
# - **Gradients that are not finite**: return NaN in every entry, so that `optax.apply_if_finite`
#   after the method rejects the step. Above, `0 * NaN` in `eps` takes care of it. A method whose
#   perturbation does not contain the gradient must do it with `jnp.where`.
# - **Several devices**: under `jit` there is nothing to do. Under `shard_map` and `pmap`, take an
#   argument `axis_name`, and return `jax.lax.pmean(output, axis_name)`. Do not average inside a
#   `lax.cond` that not all devices take.
# - **`value_fn` and `obj_fn`**: flatopt's methods make `grad_fn` from them if it is missing. Above,
#   a missing `grad_fn` is a `TypeError`. To accept them, use `jax.grad(value_fn)`.
# - **The order**: `flatopt.check_optimizer` sees the inputs of flatopt's methods only. There is no
#   way to tell it where yours belongs, so it accepts yours after the base optimizer.
#
# The contract tests are in the repository, not in the package. To run them on your method, clone
# the repository, import the method in `tests/conformance/cases.py`, and add one line to `CASES`:
#
# ```text
# Case("both_sides", _before(lambda axis_name=None, **_: both_sides(0.1, axis_name=axis_name))),
# ```
#
# Then run `python -m pytest tests/conformance -k both_sides -m "slow or not slow"`. The method of
# this page, with `axis_name` added, passes 28 of the 30 tests. The other two ask for an error message under
# `optax.masked`, and for reading the cost under `jax.transfer_guard("disallow")`.
#
# ## If you want to contribute it
#
# A method in the repository needs a test of its equation, one line in the list of methods that all
# contract tests use, and a page. `CONTRIBUTING.md` lists the steps.
