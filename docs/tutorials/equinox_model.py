# %% [markdown]
# # Equinox
#
# A model of Equinox is a pytree that contains arrays and also functions. The floating arrays are
# the params.
# [`flatopt.equinox.value_and_grad`](../reference/frameworks.md#flatopt.equinox.value_and_grad)
# works like `eqx.filter_value_and_grad`, and also returns `grad_fn`, the closure for the second
# gradient.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import flatopt
import flatopt.equinox

x = jax.random.normal(jax.random.key(0), (256, 8))
labels = jnp.argmax(x[:, :3] * x[:, 3:6], axis=-1)
model = eqx.nn.MLP(8, 3, width_size=64, depth=2, key=jax.random.key(1))

# %% [markdown]
# ## The step
#
# The optimizer gets only the floating arrays: pass `eqx.filter(model, eqx.is_inexact_array)` to
# `init` and to `update`.


# %%
def loss_fn(model, x, labels):
  logits = jax.vmap(model)(x)
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


optimizer = optax.chain(flatopt.sam(rho=0.1), optax.sgd(0.1, momentum=0.9))
opt_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
step_fn = flatopt.equinox.value_and_grad(loss_fn)


@eqx.filter_jit
def train_step(model, opt_state, x, labels):
  loss, grads, grad_fn = step_fn(model, x, labels)
  params = eqx.filter(model, eqx.is_inexact_array)
  updates, opt_state = optimizer.update(grads, opt_state, params, grad_fn=grad_fn)
  return eqx.apply_updates(model, updates), opt_state, loss


for step in range(90):
  model, opt_state, loss = train_step(model, opt_state, x, labels)
  if step % 30 == 29:
    print(f"step {step + 1}: loss {loss:.3f}")

# %% [markdown]
# ## Evaluation
#
# `eval_params` returns the params to evaluate at, for every method. `eqx.combine` puts them back
# into the model.

# %%
params, static = eqx.partition(model, eqx.is_inexact_array)
model = eqx.combine(flatopt.eval_params(opt_state, params), static)
print(f"accuracy {jnp.mean(jnp.argmax(jax.vmap(model)(x), axis=-1) == labels):.1%}")
