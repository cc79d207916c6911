# %% [markdown]
# # Equinox
#
# A model of Equinox is a pytree that also holds functions. Its arrays are the params: split them off, differentiate
# by them, and `grad_fn` is a closure over the rest.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import flatopt

x = jax.random.normal(jax.random.key(0), (256, 8))
labels = jnp.argmax(x[:, :3] * x[:, 3:6], axis=-1)
model = eqx.nn.MLP(8, 3, width_size=64, depth=2, key=jax.random.key(1))

# %% [markdown]
# ## The step
#
# The optimizer sees arrays only: `eqx.partition` gives the params and the rest, and `eqx.combine` puts them
# together where the loss is computed.

# %%
optimizer = optax.chain(flatopt.sam(rho=0.1), optax.sgd(0.1, momentum=0.9))
params, static = eqx.partition(model, eqx.is_inexact_array)
opt_state = optimizer.init(params)


def loss_fn(params, x, labels):
  logits = jax.vmap(eqx.combine(params, static))(x)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def train_step(params, opt_state, x, labels):
  grad_fn = lambda p: jax.grad(loss_fn)(p, x, labels)
  loss, grads = jax.value_and_grad(loss_fn)(params, x, labels)
  updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
  return eqx.apply_updates(params, updates), opt_state, loss


for step in range(90):
  params, opt_state, loss = train_step(params, opt_state, x, labels)
  if step % 30 == 29:
    print(f"step {step + 1}: loss {loss:.3f}")

# %% [markdown]
# ## The trained model

# %%
model = eqx.combine(flatopt.eval_params(opt_state, params), static)
print(f"accuracy {jnp.mean(jnp.argmax(jax.vmap(model)(x), axis=-1) == labels):.1%}")
