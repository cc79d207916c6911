# %% [markdown]
# # Many devices
#
# On several devices there are two ways. Under `jit` with sharded arrays the program is that of one device, and
# nothing changes. Under `shard_map` each device runs its own program, and methods need to know the axis.
#
# This page runs on eight virtual devices of a CPU.

# %%
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import flatopt

mesh = Mesh(jax.devices(), ("data",))
print(f"{len(jax.devices())} devices")

x = jax.random.normal(jax.random.key(0), (64, 8))
batch = (x, jnp.sin(x[:, 0]) * x[:, 1])
params = {
  "kernel": 0.5 * jax.random.normal(jax.random.key(1), (8, 16)),
  "out": 0.5 * jax.random.normal(jax.random.key(2), (16,)),
}


def loss_fn(params, batch):
  x, y = batch
  return jnp.mean((jnp.tanh(x @ params["kernel"]) @ params["out"] - y) ** 2)


# %% [markdown]
# ## `jit` with sharded arrays
#
# Shard the batch over the devices and copy the params to all of them. The step is the one you know. `grad_fn` sees
# the whole batch, so SAM perturbs by the gradient of the whole batch.

# %%
optimizer = optax.chain(flatopt.sam(rho=0.05), optax.sgd(0.1, momentum=0.9))


@jax.jit
def train_step(params, opt_state, batch):
  grad_fn = lambda p: jax.grad(loss_fn)(p, batch)
  updates, opt_state = optimizer.update(grad_fn(params), opt_state, params, grad_fn=grad_fn)
  return optax.apply_updates(params, updates), opt_state


everywhere = NamedSharding(mesh, PartitionSpec())
split = NamedSharding(mesh, PartitionSpec("data"))
on_all = jax.device_put(params, everywhere)
opt_state = jax.jit(optimizer.init)(on_all)
sharded = jax.device_put(batch, split)
for _ in range(20):
  on_all, opt_state = train_step(on_all, opt_state, sharded)
print(f"loss {loss_fn(on_all, batch):.4f}")

# %% [markdown]
# ## `shard_map`: each device its own perturbation
#
# Here `grad_fn` sees a device's own part of the batch. With `axis_name` each device perturbs by its own gradient,
# and the output is averaged: this is m-sharpness, which the SAM paper uses, and it saves one all-reduce a step.
# `jax.lax.pcast` marks the params as varying, so that JAX does not average the gradients behind your back.

# %%
per_device = optax.chain(flatopt.sam(rho=0.05, axis_name="data"), optax.sgd(0.1, momentum=0.9))


def step_on_a_device(params, opt_state, batch):
  grad_fn = lambda p: jax.grad(loss_fn)(p, batch)
  grads = grad_fn(jax.lax.pcast(params, "data", to="varying"))
  updates, opt_state = per_device.update(grads, opt_state, params, grad_fn=grad_fn)
  return optax.apply_updates(params, updates), opt_state


replicated = PartitionSpec()
step_on_all = jax.jit(
  jax.shard_map(
    step_on_a_device,
    mesh=mesh,
    in_specs=(replicated, replicated, PartitionSpec("data")),
    out_specs=replicated,
  )
)
mapped, opt_state = on_all, per_device.init(on_all)
mapped = jax.device_put(params, everywhere)
for _ in range(20):
  mapped, opt_state = step_on_all(mapped, opt_state, sharded)
print(f"loss {loss_fn(mapped, batch):.4f}")

# %% [markdown]
# The two losses differ a little, because a perturbation by a part's gradient is another one. With
# `sync_perturbation=True` the devices perturb by the averaged gradient, and the numbers are those of `jit` again.
# [Several devices](../devices.md) has sharded params, `pmap`, and the errors that a forgotten axis raises.
