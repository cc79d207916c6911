# %% [markdown]
# # Cutting SAM's cost
#
# SAM computes two gradients on every step. Four methods compute the second one on some steps only.
# All of them work in the same training step, so this page changes only the optimizer.

# %%
import jax
import jax.numpy as jnp
import optax

import flatopt

keys = jax.random.split(jax.random.key(0), 3)
x = jax.random.normal(keys[0], (256, 8))
y = jnp.sin(2 * x[:, 0]) * x[:, 1]
params = {
  "kernel": 0.5 * jax.random.normal(keys[1], (8, 64)),
  "bias": jnp.zeros(64),
  "out": 0.2 * jax.random.normal(keys[2], (64,)),
}


def loss_fn(params):
  return jnp.mean((jnp.tanh(x @ params["kernel"] + params["bias"]) @ params["out"] - y) ** 2)


def train(optimizer, num_steps=200):
  optimizer = optax.with_extra_args_support(optimizer)

  def step(carry, _):
    params, opt_state = carry
    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=jax.grad(loss_fn))
    return (optax.apply_updates(params, updates), opt_state), loss

  carry = (params, optimizer.init(params))
  (_, opt_state), losses = jax.jit(lambda c: jax.lax.scan(step, c, length=num_steps))(carry)
  return losses[-1], opt_state


# %% [markdown]
# ## What each method costs
#
# - `rst` computes the second gradient on steps that it chooses at random, here on half of them.
# - `g_rst` does the same, but gives the second gradient a larger weight, so that on average its
#   effect is that of SAM.
# - `looksam` computes the second gradient on every fifth step, and uses its direction again in
#   between.
# - `sala` computes it once in each cycle of five steps, and only when its fast weights are close to
#   its slow weights.
#
# `flatopt.extra_gradient_evaluations` counts the extra gradients of an optimizer:

# %%
base = optax.sgd(0.03, momentum=0.9)
sam = flatopt.sam(rho=0.05)
optimizers = {
  "sgd": base,
  "sam": optax.chain(sam, base),
  "rst": optax.chain(flatopt.rst(sam, probability=0.5), base),
  "g_rst": optax.chain(flatopt.g_rst(sam, probability=0.5), base),
  "looksam": optax.chain(flatopt.looksam(rho=0.05, alpha=0.2, update_interval=5), base),
  "sala": flatopt.sala(base, rho=0.05, sync_period=5, slow_step_size=0.8),
}
for name, optimizer in optimizers.items():
  _, opt_state = train(optimizer)
  gradients = 200 + int(flatopt.extra_gradient_evaluations(opt_state))
  print(f"{name:8s} {gradients} gradients in 200 steps")

# %% [markdown]
# ## On which steps
#
# The probability of `rst` can be a schedule. `rising_cosine` uses most of the extra gradients late
# in training. `flatopt.expected_gradient_evaluations` computes the expected number of gradients
# before training:

# %%
late = flatopt.schedules.rising_cosine(200)
print(f"{flatopt.expected_gradient_evaluations(0.5, 200):.1f} expected with a constant 1/2")
print(f"{flatopt.expected_gradient_evaluations(late, 200):.1f} expected with a rising cosine")
loss, opt_state = train(optax.chain(flatopt.rst(sam, probability=late), base))
print(f"{200 + int(flatopt.extra_gradient_evaluations(opt_state))} were computed")

# %% [markdown]
# ## How to compare methods
#
# Compare methods with the same number of gradients. So give the base optimizer as many gradients as
# the sharpness-aware method gets, which means more steps. A warning: on CPUs, these four methods
# are slow for networks with convolutions ([Cost](../cost.md)). [Evidence](../evidence/cheap_forms.md)
# compares the methods further.
