# %% [markdown]
# # Many devices
#
# There are two ways to train on several devices. With `jit` and sharded arrays, you write the
# program for one device, and the compiler splits it. Then you change nothing. With `shard_map`,
# each device runs its own program on its part of the batch, and you have to tell a method the name
# of the device axis.
#
# This page uses eight virtual devices of one CPU.

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
# Split the batch over the devices, and copy the params to all of them. The training step is the
# usual one. `grad_fn` is the gradient of the whole batch, so SAM perturbs the params by the
# gradient of the whole batch.
#
# `init` creates the counts of the state on one device. `on_mesh` copies them to all devices.
# Otherwise the second step would be compiled again, because the first one returns them on all
# devices.

# %%
optimizer = optax.chain(flatopt.sam(rho=0.05), optax.sgd(0.1, momentum=0.9))


@jax.jit
def train_step(params, opt_state, batch):
  grad_fn = lambda p: jax.grad(loss_fn)(p, batch)
  updates, opt_state = optimizer.update(grad_fn(params), opt_state, params, grad_fn=grad_fn)
  return optax.apply_updates(params, updates), opt_state


everywhere = NamedSharding(mesh, PartitionSpec())
split = NamedSharding(mesh, PartitionSpec("data"))


def on_mesh(opt_state):
  return jax.tree.map(lambda x: x if x.ndim else jax.device_put(x, everywhere), opt_state)


on_all = jax.device_put(params, everywhere)
opt_state = on_mesh(optimizer.init(on_all))
sharded = jax.device_put(batch, split)
for _ in range(20):
  on_all, opt_state = train_step(on_all, opt_state, sharded)
print(f"loss {loss_fn(on_all, batch):.4f}, {train_step._cache_size()} compilation")

# %% [markdown]
# ## `shard_map`: a perturbation for each device
#
# Here `grad_fn` is the gradient of a device's own part of the batch. With `axis_name`, each device
# perturbs the params by its own gradient, and the output is averaged over the devices. This is
# called m-sharpness; the SAM paper uses it. It needs one all-reduce less per step.
#
# `jax.lax.pcast` marks the params as varying over the devices. Otherwise `shard_map` would sum the
# gradients over the devices before the method gets them. Do not average the gradients yourself: the
# method does it.

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
on_all = jax.device_put(params, everywhere)
opt_state = on_mesh(per_device.init(on_all))
for _ in range(20):
  on_all, opt_state = step_on_all(on_all, opt_state, sharded)
print(f"loss {loss_fn(on_all, batch):.4f}")

# %% [markdown]
# The two losses differ a little, because the gradient of a part of the batch gives another
# perturbation. With `sync_perturbation=True`, all devices perturb by the averaged gradient, and the
# result is that of `jit` again. [Several devices](../devices.md) also covers Flax NNX, sharded
# params, `pmap`, and what happens if you forget the axis.
