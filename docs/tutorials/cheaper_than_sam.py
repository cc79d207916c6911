# %% [markdown]
# # Cutting SAM's cost
#
# SAM pays two gradients at every step. Four methods pay for the second one at some steps only. They fit the same
# step, so what follows changes one line at a time.

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
# ## Who pays what
#
# `rst` decides by a random draw, here at half of the steps. `looksam` looks at every fifth step and reuses what it
# saw. `sala` looks once a cycle, and only after the fast weights have come close to the slow ones. `g_rst` looks as
# often as `rst` and gives the sharpness term SAM's full weight on average.

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
  paid = 200 + int(flatopt.extra_gradient_evaluations(opt_state))
  print(f"{name:8s} {paid} gradients in 200 steps")

# %% [markdown]
# ## When to pay
#
# The probability may follow a schedule. Late steps decide which minimum training ends in, so
# `rising_cosine` spends the extra gradients there. A budget can be read off before training:

# %%
late = flatopt.schedules.rising_cosine(200)
print(flatopt.expected_gradient_evaluations(0.5, 200), "gradients with a constant 1/2")
print(f"{flatopt.expected_gradient_evaluations(late, 200):.1f} gradients with a rising cosine")
loss, opt_state = train(optax.chain(flatopt.rst(sam, probability=late), base))
print(f"{200 + int(flatopt.extra_gradient_evaluations(opt_state))} were paid")

# %% [markdown]
# ## What to compare
#
# Compare at equal gradients: the base optimizer, trained for as many gradients as SAM took, is the one to beat. On
# CPUs, methods that look at some steps only are slow with convolutions ([Cost](../cost.md)).
